"""Tests of scripts.client.load, on a small HTTP server in the place of a facade."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from scripts.client import load
from scripts.client.api import Api
from tests.support.servers import Serve, respond

SECONDS = 0.15  # of a run; long enough for a thread to start on a busy machine


class Facade:
    """A WSGI application that answers a batch of messages.

    Args:
        refusal: why the last message of each batch is not stored; "" if all are stored.
        status: the status line; with any other than 200 the whole request is refused.

    Attributes:
        stored: the number of messages of each request.
        tokens: the headers for access.
    """

    def __init__(self, refusal: str = "", status: str = "200 OK") -> None:
        self._refusal = refusal
        self._status = status
        self.stored: list[int] = []
        self.tokens: set[str] = set()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        """Answer a request."""
        lines = environ["wsgi.input"].read().splitlines()
        assert {load.TEXT} == {json.loads(line)["msg"] for line in lines}
        self.stored.append(len(lines))
        self.tokens.add(environ.get("HTTP_AUTHORIZATION", ""))
        results: list[dict[str, str]] = [{"id": str(number)} for number in range(len(lines))]
        if self._refusal:
            results[-1] = {"message": self._refusal}
        document = {"results": results} if self._status == "200 OK" else {"message": self._refusal}
        return respond(start_response, self._status, json.dumps(document).encode())


def test_the_stored_messages_and_the_latency_are_reported(serve: Serve) -> None:
    """Messages are counted, not requests, and each client presents the token."""
    facade = Facade()
    found = load.run(partial(Api, serve(facade), "secret"), clients=2, seconds=SECONDS, batch=3)

    assert {3} == {*facade.stored}
    assert sum(facade.stored) == found["messages"] > 0
    assert round(found["messages"] / SECONDS) == found["messages a second"]
    assert 0 < found["p50 ms"] <= found["p99 ms"]
    assert (0, "") == (found["errors"], found["first error"])
    assert {"Bearer secret"} == facade.tokens


@pytest.mark.parametrize(
    ("facade", "reason"),
    [(Facade("too long"), "too long"), (Facade("no node", "503 Busy"), "503: no node")],
    ids=["one message", "whole request"],
)
def test_a_batch_that_is_not_stored_is_an_error(serve: Serve, facade: Facade, reason: str) -> None:
    """It does not count as stored, and its latency is left out; the first reason is reported."""
    found = load.run(partial(Api, serve(facade)), clients=2, seconds=SECONDS, batch=2)

    assert len(facade.stored) == found["errors"] > 0
    assert (0, 0.0, 0.0, reason) == (found["messages"], found["p50 ms"], found["p99 ms"], found["first error"])
