"""Tests of facade.api.openapi.description: the OpenAPI document is valid and complete."""

import json
import subprocess
import sys
from typing import Any

import pytest

from facade.api.openapi import description


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The OpenAPI document."""
    found: dict[str, Any] = json.loads(description.description())
    return found


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    """It is valid OpenAPI 3.1."""
    command = [sys.executable, "-m", "openapi_spec_validator", "--schema", "3.1", "-"]  # importing it takes seconds
    ended = subprocess.run(command, input=json.dumps(document), capture_output=True, text=True, timeout=60, check=False)
    assert (0, "stdin: OK\n") == (ended.returncode, ended.stdout), ended.stdout + ended.stderr
    assert "3.1.0" == document["openapi"]


def test_operations_that_may_need_a_token_say_so(document: dict[str, Any]) -> None:
    """`/readyz` is one of them, because its verbose form needs a token."""
    guarded = {
        path for path, operations in document["paths"].items() for one in operations.values() if "security" in one
    }

    assert {"/readyz", "/v1/cluster", "/facade", "/metrics"} <= guarded
    assert {"/livez", "/v1/limits", "/openapi.json"} == document["paths"].keys() - guarded
    assert {"401", "403", "429"} <= document["paths"]["/readyz"]["get"]["responses"].keys()


def test_every_field_and_parameter_is_described(document: dict[str, Any]) -> None:
    """Each has a description of its own, or that of its type."""
    undescribed = [
        f"{kind}.{name}"
        for kind, schema in document["components"]["schemas"].items()
        for name, field in schema["properties"].items()
        if "description" not in field and "$ref" not in json.dumps(field)
    ]
    assert [] == undescribed
    for operations in document["paths"].values():
        for operation in operations.values():
            assert all(parameter["description"] for parameter in operation["parameters"])
