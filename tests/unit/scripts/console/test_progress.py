"""Tests of scripts.console.progress, on a terminal that is a text in memory."""

import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from scripts.console import progress


def terminal() -> tuple[Console, io.StringIO]:
    """A console that takes its file for a terminal, and the file."""
    file = io.StringIO()
    return Console(file=file, force_terminal=True, width=100), file


def test_a_copy_draws_a_bar_on_a_terminal() -> None:
    """The text is the last number of messages; the bar is removed at the end."""
    console, file = terminal()
    with progress.of_messages(200, visible=True, console=console) as report:
        report.advance(100)
        report.say("1000 messages")

    assert progress.SHOWN_MESSAGES == report.every
    assert "1000 messages" in file.getvalue()
    assert "━" in file.getvalue()


def test_a_copy_writes_lines_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    """A log must not be full of bars."""
    with progress.of_messages(200, visible=False) as report:
        report.advance(100)
        report.say("100000 messages")

    assert progress.LINE_MESSAGES == report.every
    assert ("", "100000 messages\n") == capsys.readouterr()


def test_a_duration_draws_a_bar_on_a_terminal_only(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal nothing is written."""
    console, file = terminal()
    with progress.of_time(5.0, "storing", visible=True, console=console):
        pass
    with progress.of_time(5.0, "storing"):
        pass

    assert "storing" in file.getvalue()
    assert ("", "") == capsys.readouterr()


def test_a_node_that_catches_up_is_compared_with_the_fullest_one() -> None:
    """Nodes that are ready or down have no line, and without a ready node nothing is known."""
    joining = {"address": "h:1", "state": "joining", "messages": 20}
    ready = [{"address": f"h:{count}", "state": "ready", "messages": count} for count in (99, 100)]

    assert ["h:1 catches up: it has 20 of 100 messages"] == list(progress.of_catch_up([joining, *ready]))
    assert [] == list(progress.of_catch_up([joining, {"address": "h:2", "state": "down", "messages": 0}]))


def test_only_a_file_has_a_size(tmp_path: Path) -> None:
    """The end of a pipe is unknown."""
    path = tmp_path / "messages.ndjson"
    path.write_text("12345")
    reading, writing = os.pipe()
    with path.open() as file, os.fdopen(reading) as pipe, os.fdopen(writing, "w"):
        assert (5, None) == (progress.size_of(file), progress.size_of(pipe))
