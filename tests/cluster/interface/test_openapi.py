"""Tests of the OpenAPI document against a running facade."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from facade.api.openapi.operations import OPERATIONS
from scripts.launcher.cluster import Cluster
from scripts.launcher.processes import ROOT

EXAMPLES = 20  # of each operation, and the cases at the borders of its schema
HOOKS = ROOT / "tests" / "fuzz" / "schemathesis"


def test_a_running_facade_answers_as_the_document_says(embedded_cluster: Cluster, tmp_path: Path) -> None:
    """All responses to the requests that schemathesis generates, valid and invalid ones, are as documented."""
    found = schemathesis_report(embedded_cluster, tmp_path / "report.json", EXAMPLES)

    assert found["complete"]
    operations = sum(map(len, OPERATIONS.values())) - 1  # it leaves out the description itself
    assert {operations} == {found["operations"][name] for name in ("total", "selected", "tested")}
    assert found["test_cases"]["generated"] > 100
    assert [] == found["failures"]


def schemathesis_report(cluster: Cluster, report: Path, examples: int) -> dict[str, Any]:
    """What schemathesis reports about the facade of a cluster."""
    command = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(HOOKS / "schemathesis.toml")]
    run = subprocess.run(
        [
            *(*command, "run", f"http://{cluster.settings.facade.address}/openapi.json", "--no-color"),
            *("-n", str(examples), "--report", "json", "--report-json-path", str(report)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert report.exists(), run.stdout + run.stderr
    assert 0 == run.returncode, "\n".join(line[:300] for line in run.stdout.splitlines())
    found: dict[str, Any] = msgspec.json.decode(report.read_bytes())
    return found
