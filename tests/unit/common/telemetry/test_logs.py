"""Tests of common.logs: how many writes there are."""

import io
import json
from collections.abc import Iterator

import pytest
import structlog

from common.telemetry import logs


class Writes(io.BytesIO):
    """A file, and each write to it."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """See BytesIO."""
        self.writes.append(bytes(data))
        return super().write(data)


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """The writes of a process whose lines go to a file; afterwards everything is as it was."""
    before = structlog.get_config()
    monkeypatch.setattr(logs, "_writer", None)
    monkeypatch.setattr(logs, "_configure_library_logging", lambda *_: None)
    stream = Writes()
    logs.configure("test", io.TextIOWrapper(stream))
    yield stream.writes
    structlog.configure(**before)


def test_the_lines_of_a_block_are_one_write(writes: list[bytes]) -> None:
    """In their order, each a whole line; before and after the block each line is a write."""
    log = structlog.get_logger()
    log.info("before")
    with logs.in_one_write():
        log.info("first")
        log.info("second")
        assert 1 == len(writes)
    log.info("after")

    assert [["before"], ["first", "second"], ["after"]] == [
        [json.loads(line)["event"] for line in one.splitlines()] for one in writes
    ]


def told_and_broken() -> None:
    """A block that tells something and breaks."""
    with logs.in_one_write():
        structlog.get_logger().info("first")
        raise ZeroDivisionError


def test_what_breaks_in_a_block_loses_no_line(writes: list[bytes]) -> None:
    """What was told before is written."""
    with pytest.raises(ZeroDivisionError):
        told_and_broken()

    assert [1] == [one.count(b"\n") for one in writes]


def test_a_process_that_is_not_configured_has_blocks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in tests."""
    monkeypatch.setattr(logs, "_writer", None)
    with logs.in_one_write():
        structlog.get_logger().info("x")
