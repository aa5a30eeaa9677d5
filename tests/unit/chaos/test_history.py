"""Tests of tests.chaos.history."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import FatalError
from scripts.launcher.processes import ROOT
from tests.chaos import history
from tests.chaos.checker import FullRead, Write, WriteOutcome

WRITES = [
    Write("w0-0 a", 1.0, 2.0, WriteOutcome.OK, ("id",)),
    Write("w1-0 b", 1.5, 2.5, WriteOutcome.INFO, visible_s=4.5),
    Write("w0-1 \u00e9", 3.0, 4.0, WriteOutcome.FAIL),
]
READS = [FullRead(["w0-0 a"], 2.1, 2.2), FullRead(["w0-0 a", "w1-0 b"], 5.0, 5.1)]


def test_a_history_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    """A file has one JSON line for each event, in the order of their times."""
    path = tmp_path / "folder" / "history.jsonl"
    history.save(path, WRITES, READS)
    events = [json.loads(line) for line in path.read_text().splitlines()]

    assert (WRITES, READS) == history.load(path)
    assert sorted(event["time"] for event in events) == [event["time"] for event in events]
    assert ["invoke", "invoke", "ok", "invoke", "ok"] == [event["type"] for event in events][:5]


@pytest.mark.parametrize("text", ["nonsense", "[]", '{"type": "ok", "op": "w0"}', '{"type": "invoke", "op": "w0"}'])
def test_a_file_that_is_no_history_is_a_fatal_error(tmp_path: Path, text: str) -> None:
    """A history without any read is refused, too, since it proves nothing."""
    path = tmp_path / "history.jsonl"
    path.write_text(text)

    with pytest.raises(FatalError, match=r"history.jsonl (is not a history|has no read)"):
        history.load(path)


@pytest.mark.parametrize(("texts", "code"), [(["w0-0 a"], 0), ([], 1)])
def test_a_command_checks_a_history(tmp_path: Path, texts: list[str], code: int) -> None:
    """It prints the verdict, and exits with 1 if a promise was broken."""
    path = tmp_path / "history.jsonl"
    history.save(path, WRITES[:1], [FullRead(texts, 5.0, 5.1)])
    ended = subprocess.run(
        [sys.executable, "-m", "tests.chaos.history", str(path)], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert code == ended.returncode
    assert code == json.loads(ended.stdout)["broken"]["lost"]
