"""Tests of programs that send logs, with the examples of docs/examples, on a real facade.

Fluent Bit and Vector are on no package index, so what they send is sent here, as their configurations say. The exporter
of OpenTelemetry is the real one.
"""

import gzip
import json
import logging
import os
import subprocess
import sys
from typing import Any

import psutil
import yaml
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from scripts.client.api import Api
from scripts.client.connection import client
from scripts.launcher.cluster import Cluster
from scripts.launcher.processes import ROOT
from tests.support.clusters import alive, quiet
from tests.support.waiting import eventually

EXAMPLES = ROOT / "docs" / "examples"


def url(cluster: Cluster) -> str:
    """The URL of the facade."""
    return f"http://{cluster.settings.facade.address}"


def found(cluster: Cluster, **query: str) -> list[dict[str, Any]]:
    """All messages that a query finds."""
    return list(Api(url(cluster)).everything(query))


def send(cluster: Cluster, uri: str, content_type: str, body: bytes) -> None:
    """Send what a shipper sends, compressed."""
    headers = {"Content-Type": content_type, "Content-Encoding": "gzip"}
    with client(cluster.settings.facade.address) as http_client:
        assert 200 == http_client.call("POST", uri, gzip.compress(body), headers).status


def test_fluent_bit_ships_lines(embedded_cluster: Cluster) -> None:
    """An array of records, each with the line in `log` and the time in `date`."""
    (output,) = yaml.safe_load((EXAMPLES / "fluent-bit.yaml").read_text())["pipeline"]["outputs"]
    assert ("http", "json", "gzip", "iso8601") == tuple(
        output[name] for name in ("name", "format", "compress", "json_date_format")
    )
    records = [
        {output["json_date_key"]: "2026-11-24T08:00:00.123456Z", "log": "a fluent line", "file": "/var/log/app/a"}
    ]
    send(embedded_cluster, output["uri"], "application/json", json.dumps(records).encode())

    (stored,) = found(embedded_cluster, contains="fluent line")
    assert ("2026-11-24T08:00:00.123Z", {"file": "/var/log/app/a"}) == (stored["time"], stored["fields"])


def test_vector_ships_events(embedded_cluster: Cluster) -> None:
    """Lines of JSON, each with the line in `message` and the time in `timestamp`."""
    sink = yaml.safe_load((EXAMPLES / "vector.yaml").read_text())["sinks"]["threefold"]
    assert ("http", "json", "newline_delimited", "gzip") == (
        sink["type"],
        sink["encoding"]["codec"],
        sink["framing"]["method"],
        sink["compression"],
    )
    event = {"file": "/var/log/app/a", "host": "h", "message": "a vector line", "timestamp": "2026-11-24T08:00:00.123Z"}
    uri = sink["uri"].partition("5000")[2]
    send(embedded_cluster, uri, "application/x-ndjson", json.dumps(event).encode() + b"\n")

    (stored,) = found(embedded_cluster, contains="vector line")
    assert ("2026-11-24T08:00:00.123Z", {"file": "/var/log/app/a", "host": "h"}) == (stored["time"], stored["fields"])


def test_curl_sends_a_batch(embedded_cluster: Cluster) -> None:
    """The script needs nothing but curl."""
    environ = os.environ | {"FACADE_URL": url(embedded_cluster)}
    subprocess.run(["sh", EXAMPLES / "curl.sh"], env=environ, check=True, capture_output=True, timeout=60)

    stored = found(embedded_cluster, **{"field.job": "backup"})
    assert [("backup begins", None), ("backup ends", 12.5)] == [
        (one["msg"], one["fields"].get("seconds")) for one in stored
    ]


def test_a_pipe_ships_what_a_program_writes(embedded_cluster: Cluster) -> None:
    """Both streams of it, with its name; its exit status is kept."""
    environ = os.environ | {
        "FACADE_URL": url(embedded_cluster),
        "FACADE_CLIENT": str(ROOT / "scripts" / "threefold"),
    }
    program = ["sh", "-c", "echo from a pipe; echo and its errors >&2; exit 7"]
    ended = subprocess.run(
        ["sh", EXAMPLES / "pipe.sh", *program], env=environ, check=False, capture_output=True, timeout=60
    )

    assert (7, b"", b"") == (ended.returncode, ended.stdout, ended.stderr)

    stored = found(embedded_cluster, **{"field.program": "sh"})
    assert ["from a pipe", "and its errors"] == [one["msg"] for one in stored]


PROGRAM = """
import logging, sys
from threefold_logging import ThreefoldHandler
logging.getLogger().addHandler(ThreefoldHandler(sys.argv[1], fields={"service": "shop"}, batch_records=50))
for number in range(1_000):
    logging.getLogger("cart").warning("order %d", number, extra={"order": number})
    if number == 500:
        print("half", flush=True)
        sys.stdin.readline()
try:
    1 / 0
except ZeroDivisionError:
    logging.exception("broken")
"""


def test_a_program_logs_through_a_restart_of_the_facade(embedded_cluster: Cluster) -> None:
    """Each record is stored once, with its fields, also those that were logged while no facade answered."""
    arguments = [sys.executable, "-c", PROGRAM, url(embedded_cluster)]
    with subprocess.Popen(
        arguments, cwd=EXAMPLES, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        assert "half\n" == process.stdout.readline()
        (pid,) = [status.pid for status in embedded_cluster.status() if status.part.name == "facade"]
        facade = psutil.Process(pid)
        facade.kill()
        eventually(lambda: not alive(facade))
        process.stdin.write("\n")
        process.stdin.flush()
        embedded_cluster.up(quiet)
        _, errors = process.communicate(timeout=60.0)

    assert (0, "") == (process.returncode, errors)
    stored = found(embedded_cluster, **{"field.service": "shop"})
    orders = [one["fields"]["order"] for one in stored if one["fields"]["logger"] == "cart"]
    assert sorted(orders) == list(range(1_000))
    (broken,) = [one for one in stored if one["fields"]["level"] == "error"]
    assert broken["msg"].startswith("broken\nTraceback")


FORKING = """
import logging, os, sys
from threefold_logging import ThreefoldHandler
handler = ThreefoldHandler(sys.argv[1], fields={"service": "forked"}, batch_records=200)
logging.getLogger().addHandler(handler)
logging.warning("parent")
child = os.fork()
if child:
    assert 0 == os.waitpid(child, 0)[1]
else:
    logging.warning("child")
for number in range(150):
    logging.warning("%s of %d", "x" * 60_000, number)
logging.shutdown()
assert 0 == handler.dropped
os._exit(0) if not child else None
"""


def test_a_program_that_forks_logs_in_both_processes(embedded_cluster: Cluster) -> None:
    """A batch that is too large for a request is sent in halves."""
    arguments = [sys.executable, "-c", FORKING, url(embedded_cluster)]
    ended = subprocess.run(arguments, cwd=EXAMPLES, check=False, capture_output=True, timeout=90)

    assert (0, b"") == (ended.returncode, ended.stderr)
    stored = found(embedded_cluster, **{"field.service": "forked"})
    assert ["child", "parent"] == sorted(one["msg"] for one in stored if len(one["msg"]) < 10)
    assert 302 == len(stored)


def test_the_exporter_of_opentelemetry_stores_every_record(embedded_cluster: Cluster) -> None:
    """With severity, attributes, resource and the trace in which it was logged."""
    provider = LoggerProvider(resource=Resource.create({"service.name": "shop"}))
    provider.add_log_record_processor(
        BatchLogRecordProcessor(OTLPLogExporter(endpoint=f"{url(embedded_cluster)}/v1/logs"), schedule_delay_millis=50)
    )
    logger = provider.get_logger("cart")
    with TracerProvider().get_tracer("test").start_as_current_span("order") as span:
        for number in range(1_000):
            logger.emit(
                body=f"otel {number}",
                severity_number=SeverityNumber.ERROR,
                severity_text="ERROR",
                attributes={"order": number, "express": number % 2 == 0},
            )
    assert provider.force_flush(30_000)
    provider.shutdown()
    logging.getLogger("opentelemetry").handlers.clear()

    trace_id = f"{span.get_span_context().trace_id:032x}"
    stored = found(embedded_cluster, **{"field.trace_id": trace_id, "field.severity": "error"})
    assert [f"otel {number}" for number in range(1_000)] == [one["msg"] for one in stored]
    assert list(range(1_000)) == [one["fields"]["order"] for one in stored]
    assert {"shop"} == {one["fields"]["resource.service.name"] for one in stored}
    assert 500 == len(found(embedded_cluster, **{"field.trace_id": trace_id, "field.express": "true"}))
