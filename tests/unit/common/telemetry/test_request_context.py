"""Tests of common.origin and common.logs: how a request is called, and the lines that tell of it."""

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from falcon import testing
from structlog.typing import EventDict

from common.telemetry import request_context
from scripts.launcher.cluster import Cluster
from scripts.launcher.processes import ROOT
from tests.support.facade import World
from tests.support.waiting import eventually

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

LOGGING = """
import logging, sys
import structlog
from common.telemetry import logs, request_context
logs.configure("part", sys.stdout)
log = structlog.get_logger()
with request_context.use(request_context.from_headers("order-7", None)):
    log.info("stored", reason=OSError("disk"))
logging.getLogger("library").warning("low on %s", "ports")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("broke")
log.debug("too much")
"""


@pytest.fixture
def http() -> testing.TestClient:
    """A facade, and a whole system in memory behind it."""
    world = World()
    return world.http()


def test_an_origin_is_taken_from_headers_that_are_valid() -> None:
    """The trace goes on with a span of its own; the flags are kept."""
    source = request_context.from_headers("order-7", f"00-{TRACE}-{SPAN}-01")

    assert "order-7" == source.request_id
    assert re.fullmatch(f"00-{TRACE}-[0-9a-f]{{16}}-01", source.traceparent)
    assert SPAN not in source.traceparent


@pytest.mark.parametrize("name", [None, "", "two words", "x" * 129, 'a"b', "é", "a\nb"])
@pytest.mark.parametrize(
    "parent",
    [
        None,
        "",
        f"01-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01-more",
    ],
)
def test_what_is_missing_or_wrong_is_made(name: str | None, parent: str | None) -> None:
    """A request is never refused for these headers: it gets a trace, and is called as its trace."""
    source = request_context.from_headers(name, parent)

    assert re.fullmatch(request_context.TRACEPARENT, source.traceparent)
    assert source.request_id == source.traceparent[3:35] != TRACE
    assert request_context.from_headers(None, None) != source


def test_replies_problems_and_lines_say_for_which_request_they_are(
    http: testing.TestClient, logged: list[EventDict]
) -> None:
    """The header of a reply, the body of a problem, and the lines of facade and node have the id and the trace."""
    headers = {"X-Request-ID": "order-7", "traceparent": f"00-{TRACE}-{SPAN}-01"}
    stored = http.simulate_post("/facade", json={"msg": "a"}, headers=headers)
    wrong = http.simulate_post("/facade", json={"msg": 5}, headers=headers)

    assert ["order-7", "order-7"] == [answer.headers["x-request-id"] for answer in (stored, wrong)]
    assert "order-7" == wrong.json["request_id"]
    assert wrong.json["traceparent"].startswith(f"00-{TRACE}-")
    assert ["order-7"] in [line.get("request_ids") for line in logged]


def logged_by(log: Path) -> list[dict[str, Any]]:
    """The lines of a log, each of which is a JSON object."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_a_request_is_found_in_the_logs_of_all_that_worked_on_it(embedded_cluster: Cluster) -> None:
    """One id and one trace lead from the header of a client through the facade's log to the line of the node."""
    url = f"http://{embedded_cluster.settings.facade.address}/v1/messages"
    headers = {"Content-Type": "text/plain", "X-Request-ID": "order-7", "traceparent": f"00-{TRACE}-{SPAN}-01"}
    urllib.request.urlopen(urllib.request.Request(url, b"hi", headers), timeout=10).close()
    logs = embedded_cluster.folder / "logs"

    (node,) = eventually(
        lambda: [
            line
            for path in logs.glob("logging-*.log")
            for line in logged_by(path)
            if line.get("request_id") == "order-7"
        ]
    )
    (facade,) = [line for line in logged_by(logs / "facade.log") if line.get("request_ids") == ["order-7"]]
    assert ("stored", "hi", TRACE) == (node["event"], node["msg"], node["traceparent"][3:35])
    assert ([node["id"]], node["node"], [node["traceparent"]]) == (
        facade["ids"],
        facade["node"],
        facade["traceparents"],
    )
    assert {"time", "level", "service", "event"} <= node.keys()


def test_lines_are_json_where_there_is_no_terminal() -> None:
    """Each line is one object, also of a library, with a traceback, or with what is no JSON."""
    script = LOGGING + 'log.info("odd", text="\\ud800", path=sys)'
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    stored, library, broke, odd = map(json.loads, run.stdout.splitlines())

    assert ("stored", "info", "part", "order-7", "disk") == tuple(
        stored[name] for name in ("event", "level", "service", "request_id", "reason")
    )
    assert ("low on ports", "warning", "library") == tuple(library[name] for name in ("event", "level", "logger"))
    assert "ZeroDivisionError" in broke["exception"]
    assert "\ud800" == odd["text"]


def test_lines_are_for_a_person_on_a_terminal() -> None:
    """There they have no JSON, but the same fields."""
    script = f"import sys\nsys.stdout.isatty = lambda: True\n{LOGGING}"
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )

    assert "stored" in run.stdout
    assert "order-7" in run.stdout
    assert "{" not in run.stdout.splitlines()[0]


def test_a_line_that_cannot_be_written_breaks_nothing() -> None:
    """A full disk under the log: the work goes on without it."""
    script = LOGGING.replace("sys.stdout", "open('/dev/full', 'w')") + "print('done')"
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )

    assert run.stdout == "done\n"


def test_a_client_cannot_write_to_the_terminal_of_an_operator() -> None:
    """Control characters in a text are shown, not sent."""
    script = f"import sys\nsys.stdout.isatty = lambda: True\n{LOGGING}log.info('stored', msg='\\x1b[2Jx')"
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )

    assert "\\x1b[2Jx" in run.stdout
    assert "\x1b[2J" not in run.stdout
