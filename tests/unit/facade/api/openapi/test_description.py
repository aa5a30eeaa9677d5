"""Tests of the description of the API: that it is valid, whole, and true of a running facade."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from facade.api.openapi import description
from facade.api.openapi.operations import OPERATIONS
from facade.api.page import files
from scripts.launcher.cluster import Cluster
from scripts.launcher.processes import ROOT
from tests.support.facade import World

EXAMPLES = 20  # of each operation, and the cases at the borders of its schema
HOOKS = ROOT / "tests" / "fuzz" / "schemathesis"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The description."""
    found: dict[str, Any] = json.loads(description.description())
    return found


def test_the_description_is_valid(document: dict[str, Any]) -> None:
    """It is OpenAPI 3.1."""
    assert [] == list(OpenAPIV31SpecValidator(document).iter_errors())
    assert "3.1.0" == document["openapi"]


def test_every_path_is_described(document: dict[str, Any]) -> None:
    """What a facade answers is there, but for the pages for people."""
    pages = {*files.PAGES, "/assets/{name}"}
    served = {"/facade", "/v1/messages", "/v1/messages/{message_id}", *World().documents} | pages

    assert served - pages == set(document["paths"])


def test_what_may_need_a_token_says_so(document: dict[str, Any]) -> None:
    """Also `/readyz`, for what it tells when it is asked for more."""
    guarded = {
        path for path, operations in document["paths"].items() for one in operations.values() if "security" in one
    }

    assert {"/readyz", "/v1/cluster", "/facade", "/metrics"} <= guarded
    assert {"/livez", "/v1/limits", "/openapi.json"} == document["paths"].keys() - guarded
    assert {"401", "403", "429"} <= document["paths"]["/readyz"]["get"]["responses"].keys()


def test_every_field_and_parameter_is_described(document: dict[str, Any]) -> None:
    """Each has a text of its own, or that of its type."""
    silent = [
        f"{kind}.{name}"
        for kind, schema in document["components"]["schemas"].items()
        for name, field in schema["properties"].items()
        if "description" not in field and "$ref" not in json.dumps(field)
    ]
    assert [] == silent
    for operations in document["paths"].values():
        for operation in operations.values():
            assert all(parameter["description"] for parameter in operation["parameters"])


def test_the_description_is_true_of_a_running_facade(embedded_cluster: Cluster, tmp_path: Path) -> None:
    """What schemathesis makes of it is answered as it says: right and wrong bodies, parameters, headers, methods."""
    found = checked(embedded_cluster, tmp_path / "report.json", EXAMPLES)

    assert found["complete"]
    operations = sum(map(len, OPERATIONS.values())) - 1  # it leaves out the description itself
    assert {operations} == {found["operations"][name] for name in ("total", "selected", "tested")}
    assert found["test_cases"]["generated"] > 100
    assert [] == found["failures"]


def checked(cluster: Cluster, report: Path, examples: int) -> dict[str, Any]:
    """What schemathesis reports of a cluster's facade."""
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
