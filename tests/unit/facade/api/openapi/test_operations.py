"""Tests of facade.api.openapi.operations: the table of operations describes what a facade does."""

import json
from typing import Any

import msgspec
import pytest

from common.errors import RequestError
from facade.api import body, query
from facade.api.openapi.operations import IN_PATHS, OPERATIONS
from facade.api.page import files
from tests.support.facade import MemorySystem

MESSAGES = OPERATIONS["/v1/messages"]


def fits(value: Any, kind: Any) -> bool:
    """True if a value is valid for a type of the table."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def test_every_path_is_described() -> None:
    """The table has every path of a facade, except the pages for people."""
    pages = {*files.PAGES, "/assets/{name}"}
    served = {"/facade", "/v1/messages", "/v1/messages/{message_id}", "/v1/logs", *MemorySystem().documents} | pages

    assert served - pages == set(OPERATIONS)


@pytest.mark.parametrize("path", [path for path in OPERATIONS if path not in {"/metrics", "/openapi.json", "/v1/logs"}])
def test_a_response_has_exactly_the_fields_of_its_type(path: str) -> None:
    """The JSON of each GET can be read as the type in the table, and nothing of it is lost."""
    system = MemorySystem()
    entry = system.store_message("hi")
    response = system.http().simulate_get(path.format(message_id=entry.id))
    kind = OPERATIONS[path]["get"].answers[response.status_code][body.JSON]

    assert json.loads(msgspec.json.encode(msgspec.json.decode(response.content, type=kind))) == response.json


@pytest.mark.parametrize(
    "key",
    [
        *("k", '"k"', "", '""', '"', '"""', 'k"', '"k', "two words", "é"),
        *("x" * 255, "x" * 256, f'"{"x" * 254}', f'"{"x" * 255}', f'"{"x" * 255}"', f'"{"x" * 256}"'),
    ],
)
def test_the_pattern_of_keys_accepts_what_a_facade_accepts(key: str) -> None:
    """A generated client refuses exactly the idempotency keys that are answered with 400."""
    kind, _ = MESSAGES["post"].headers["Idempotency-Key"]
    try:
        accepted = body.idempotency_key(key) is not None
    except RequestError:
        accepted = False

    assert accepted == fits(key, kind)


def test_the_parameters_are_those_that_a_facade_knows() -> None:
    """The table and the parser have the same parameters, and the same limits of a page."""
    parameters = MESSAGES["get"].query
    kind, _ = parameters["limit"]

    assert {*query.PARAMETERS} == {*parameters}
    for limit in (0, 1, 1_000, 1_001):
        try:
            accepted = query.parse({"limit": str(limit)}).limit == limit
        except RequestError:
            accepted = False
        assert accepted == fits(limit, kind)


def test_a_link_leads_to_an_operation_with_its_parameters() -> None:
    """Generated clients follow it: the operation exists, and the link gives each parameter of its path."""
    paths = {operation.id: path for path, operations in OPERATIONS.items() for operation in operations.values()}
    links = [link for operations in OPERATIONS.values() for one in operations.values() for link in one.links.items()]

    assert [("getMessage", {"message_id": "$response.body#/id"})] == links
    for target, needs in links:
        assert {name for name in IN_PATHS if f"{{{name}}}" in paths[target]} == {*needs}
    assert sum(map(len, OPERATIONS.values())) == len(paths)
