"""Tests of common.telemetry.logs: the lines that a process writes, each from a process of its own."""

import json
import os
import subprocess
import sys

from scripts.launcher.processes import ROOT

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
ON_A_TERMINAL = "import sys; sys.stdout.isatty = lambda: True\n"
RECORDING = """
import io, json
import structlog
from common.telemetry import logs

class Recorder(io.BytesIO):
    writes = []

    def write(self, data):
        self.writes.append([json.loads(line)["event"] for line in bytes(data).splitlines()])
        return len(data)

logs.configure("test", io.TextIOWrapper(Recorder()))
log = structlog.get_logger()
"""


def output_of(script: str) -> str:
    """The standard output of a Python script."""
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return ended.stdout


def test_without_a_terminal_each_line_is_a_json_object() -> None:
    """Lines of a library, with a traceback, or with a value that JSON lacks are JSON objects, too."""
    script = LOGGING + 'log.info("odd", text="\\ud800", path=sys)'
    stored, library, broke, odd = map(json.loads, output_of(script).splitlines())

    assert ("stored", "info", "part", "order-7", "disk") == tuple(
        stored[name] for name in ("event", "level", "service", "request_id", "reason")
    )
    assert ("low on ports", "warning", "library") == tuple(library[name] for name in ("event", "level", "logger"))
    assert "ZeroDivisionError" in broke["exception"]
    assert "\ud800" == odd["text"]


def test_on_a_terminal_lines_are_for_a_person() -> None:
    """They have the same fields, not as JSON."""
    output = output_of(ON_A_TERMINAL + LOGGING)

    assert "stored" in output
    assert "order-7" in output
    assert "{" not in output.splitlines()[0]


def test_a_line_that_cannot_be_written_is_dropped() -> None:
    """A process works on if the disk under its log is full."""
    script = LOGGING.replace("sys.stdout", "open('/dev/full', 'w')") + "print('done')"

    assert "done\n" == output_of(script)


def test_control_characters_are_escaped_on_a_terminal() -> None:
    """A client cannot write to the terminal of an operator."""
    output = output_of(f"{ON_A_TERMINAL}{LOGGING}log.info('stored', msg='\\x1b[2Jx')")

    assert "\\x1b[2Jx" in output
    assert "\x1b[2J" not in output


def test_the_lines_of_a_block_are_one_write() -> None:
    """The lines keep their order; before and after the block each line is a write of its own."""
    script = """
log.info("before")
with logs.in_one_write():
    log.info("first")
    log.info("second")
log.info("after")
print(json.dumps(Recorder.writes))
"""

    assert [["before"], ["first", "second"], ["after"]] == json.loads(output_of(RECORDING + script))


def test_nothing_is_written_before_the_end_of_a_block() -> None:
    """The lines of a block wait until then."""
    script = """
with logs.in_one_write():
    log.info("first")
    print(json.dumps(Recorder.writes))
"""

    assert [] == json.loads(output_of(RECORDING + script))


def test_a_block_that_raises_writes_its_lines() -> None:
    """The lines before the exception are written."""
    script = """
try:
    with logs.in_one_write():
        log.info("first")
        raise ZeroDivisionError
except ZeroDivisionError:
    print(json.dumps(Recorder.writes))
"""

    assert [["first"]] == json.loads(output_of(RECORDING + script))


def test_a_block_without_configured_logs_does_nothing() -> None:
    """A test need not configure the logs of its process."""
    script = """
import structlog
from common.telemetry import logs

with logs.in_one_write():
    structlog.get_logger().info("written at once")
"""

    assert "written at once" in output_of(script)


def test_a_pipe_that_nobody_reads_does_not_stop_the_process() -> None:
    """Lines are dropped while it is full; the next line that finds room says how many."""
    script = """
import logging, os, sys, structlog
from common.telemetry import logs
logs.configure("part", sys.stderr)
log = structlog.get_logger()
for number in range(5_000):
    log.info("line", number=number, text="x" * 200)
log.info("long", text="y" * 20_000)
logging.getLogger("library").warning("from a library")
print("done", flush=True)
sys.stdin.readline()
log.info("last")
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        assert b"done\n" == process.stdout.readline()
        received = os.read(process.stderr.fileno(), 1_048_576)
        process.stdin.write(b"\n")
        process.stdin.flush()
        received += process.stderr.read()

    events = [json.loads(line) for line in received.splitlines() if line.endswith(b"}")]
    dropped = next(line["lines"] for line in events if line["event"].startswith("log lines dropped"))
    whole = sum(line["event"] == "line" for line in events)
    assert "last" == events[-1]["event"]
    assert whole < 5_000
    assert 5_002 <= whole + dropped <= 5_003  # one may be cut
