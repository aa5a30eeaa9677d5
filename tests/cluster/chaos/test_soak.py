"""Tests of tests.chaos.soak on a real cluster: a short form of `make soak`."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from scripts.launcher.processes import ROOT, gone

LONGEST_S = 120.0  # the longest run in a test
NODES = [f"{what}-{number}" for what in ("logging", "member") for number in (1, 2, 3)]
PARTS = {"registry-1", "registry-2", "messages-1", "facade", *NODES}


@contextmanager
def soaking(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`python -m tests.chaos.soak` with a report and a plot; stopped by SIGTERM at the end, so that it cleans up."""
    files = ("--report", str(folder / "soak.json"), "--plot", str(folder / "soak.svg"), "--data", str(folder / "data"))
    with subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.soak", *files, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def test_a_soak_with_a_fault_breaks_no_promise(runtime: object, tmp_path: Path) -> None:
    """With a random fault under load no promise is broken, no client gets an error, and every part is measured."""
    del runtime
    with soaking(tmp_path, "--minutes", "0.4", "--every", "14", "--seed", "1") as process:
        out, err = process.communicate(timeout=LONGEST_S)
    found = json.loads((tmp_path / "soak.json").read_text())
    picture = (tmp_path / "soak.svg").read_text()

    assert 0 == process.returncode, out + err
    assert set() == {name for name, count in found["verdict"]["broken"].items() if count}
    assert (0, 0, [], 1) == (found["differing"], found["errors"], found["failures"], len(found["events"]))
    assert found["verdict"]["acknowledged"] > 1_000
    assert (found["reads"] > 3, found["looks"] > 50) == (True, True)
    assert PARTS == {part for sample in found["samples"] for part in sample["parts"]}
    assert all(f">{name}</text>" in picture for name in (*PARTS, "posts", found["events"][0]["fault"]))
    assert {f"logging-{number}" for number in (1, 2, 3)} == set(found["samples"][-1]["journals_mb"])
    assert PARTS == set(found["samples"][-1]["logs_mb"])


def test_a_soak_that_is_stopped_leaves_a_report_and_no_process(runtime: object, tmp_path: Path) -> None:
    """SIGTERM ends all processes; the report of the faults so far has no verdict."""
    del runtime
    with soaking(tmp_path, "--minutes", "9", "--every", "1") as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if " min: " in line)
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=LONGEST_S)
    found = json.loads((tmp_path / "soak.json").read_text())

    assert "soak: stopped by a signal\n" in err
    assert (None, 1) == (found["verdict"], len(found["events"]))
    assert found["events"][0]["fault"] in line
    assert (tmp_path / "soak.svg").read_text().endswith("</svg>\n")
    assert started
    assert [] == [one for one in started if not gone(one)]
