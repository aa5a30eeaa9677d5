"""Tests of tests.chaos.torture on a real cluster: a short form of `make torture`."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from scripts.launcher.processes import ROOT
from tests.chaos import checker, history
from tests.support.processes import environment_without_coverage

LONGEST_S = 150.0  # the longest run in a test


def torture(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m tests.chaos.torture`; it is stopped by SIGTERM when it takes too long, so that it cleans up."""
    command = [sys.executable, "-m", "tests.chaos.torture", *arguments]
    environ = environment_without_coverage() | {"COLUMNS": "160"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            out, err = process.communicate(timeout=LONGEST_S)
        except subprocess.TimeoutExpired:
            process.terminate()
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def test_a_killed_and_a_hung_node_break_no_promise(runtime: object, tmp_path: Path) -> None:
    """Under load one node is killed and another one hangs: nothing is lost, doubled or stale, and no client fails."""
    del runtime
    ended = torture(
        *("--faults", "kill,pause-node", "--seed", "7", "--hang", "6", "--least", "500", "--pause", "0.05"),
        *("--report", str(tmp_path / "report.json"), "--history", str(tmp_path)),
    )
    results = json.loads((tmp_path / "report.json").read_text())["results"]

    assert 0 == ended.returncode, ended.stdout + ended.stderr
    assert ["kill", "pause-node"] == [result["fault"] for result in results]
    for result in results:
        assert (0, "") == (result["errors"], result["first_error"])
        assert result["verdict"]["acknowledged"] >= 500
        assert result["reads"] > 5
        writes, reads = history.load(tmp_path / f"{result['fault']}-7.jsonl")
        assert result["verdict"] == asdict(checker.check(writes, reads))
        assert {"w0", "w1", "w2", "w3", "curl"} == {write.text.partition("-")[0] for write in writes}
    assert [["kill"], ["hang", "resume"]] == [list(result["outage_ms"]) for result in results]


@pytest.mark.needs("strace", "ip", "nft", "tc", "root")
@pytest.mark.parametrize("faults", ["wipe,torn", "split,merge-kill", "failing,facade,parallel-key", "apart,slow-link"])
def test_faults_of_disks_networks_and_facades_break_no_promise(runtime: object, tmp_path: Path, faults: str) -> None:
    """Disks are lost, torn or fail, networks split or are slow, and a facade stops."""
    del runtime
    report = str(tmp_path / "report.json")
    ended = torture("--faults", faults, "--seed", "3", "--least", "300", "--pause", "0.05", "--report", report)
    results = json.loads((tmp_path / "report.json").read_text())["results"]

    assert 0 == ended.returncode, ended.stdout + ended.stderr
    assert faults.split(",") == [result["fault"] for result in results]
    assert all(result["verdict"]["acknowledged"] >= 300 for result in results)
