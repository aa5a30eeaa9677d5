"""Fixtures of the tests of scripts."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.servers import Application, Serve, serving_http


@pytest.fixture(scope="module")
def serve() -> Iterator[Serve]:
    """Lets one HTTP server answer with an application from then on; returns its host:port.

    The tests of a file share the server, because it takes 0.2 s to stop.
    """
    current: list[Application] = []

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        return current[-1](environ, start_response)

    with serving_http(answer) as server:

        def start(application: Application) -> str:
            current.append(application)
            return server.address

        yield start
