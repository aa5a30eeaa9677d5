"""Tests of tests.chaos.torture on a real cluster: a short form of `make torture`."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from scripts.launcher.processes import ROOT
from tests.chaos import checker, history

LONGEST_S = 240.0  # the longest run in a test
LEAST = 300  # writes of a run


pytestmark = pytest.mark.timeout(LONGEST_S + 60)


def torture(folder: Path, faults: str, seed: int) -> dict[str, Any]:
    """The result of `python -m tests.chaos.torture` with a small load on one cluster; no promise may be broken.

    Args:
        folder: for the report and the histories.
        faults: names of faults, joined by "+".
        seed: of the random choices.
    """
    report = folder / "report.json"
    ended = run("--faults", faults, "--seed", str(seed), "--report", str(report), "--history", str(folder))
    found = json.loads(report.read_text()) if report.exists() else {}

    assert 0 == ended.returncode, ended.stdout + ended.stderr
    result: dict[str, Any]
    (result,) = found["results"]
    assert faults == result["faults"]
    assert result["verdict"]["acknowledged"] >= LEAST
    return result


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program; after LONGEST_S it gets SIGTERM, so that it ends its cluster."""
    load = ("--least", str(LEAST), "--pause", "0.15", "--hang", "6")
    command = [sys.executable, "-m", "tests.chaos.torture", *load, *arguments]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "160"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=LONGEST_S)
        except subprocess.TimeoutExpired:
            process.terminate()
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def test_faults_of_nodes_break_no_promise(runtime: object, tmp_path: Path) -> None:
    """Under load nodes are killed, hang and lose the end of their log: nothing is lost, doubled or stale, no error."""
    del runtime
    result = torture(tmp_path, "kill+pause-node+parallel-key+torn", 7)

    assert (0, "") == (result["errors"], result["first_error"])
    assert result["reads"] > 5
    writes, reads = history.load(tmp_path / f"{result['faults']}-7.jsonl")
    assert result["verdict"] == asdict(checker.check(writes, reads))
    assert {"w0", "w1", "w2", "w3", "curl"} <= {write.text.partition("-")[0] for write in writes}
    assert {"kill", "hang", "resume"} == set(result["outage_ms"])


@pytest.mark.needs("strace")
def test_faults_of_disks_and_of_the_facade_break_no_promise(runtime: object, tmp_path: Path) -> None:
    """A disk fails or is lost, the facade is stopped, all nodes are dead for a while: what was acknowledged stays."""
    del runtime
    torture(tmp_path, "failing+facade+wipe", 3)


@pytest.mark.needs("ip", "nft", "tc", "root")
def test_faults_of_networks_break_no_promise(runtime: object, tmp_path: Path) -> None:
    """Networks split between simulated hosts, one node is cut off from the others, and one link is slow."""
    del runtime
    torture(tmp_path, "apart+slow-link+split+merge-kill", 3)
