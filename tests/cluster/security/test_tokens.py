"""Tests of tokens on a real cluster."""

import contextlib
import http.client
from pathlib import Path

import pytest

from facade.auth.tokens import Scope, Token, digest_of
from scripts import tokens
from tests.support.clusters import running_cluster


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with a token that may read."""
    made = tmp_path / "tokens.toml"
    tokens.write(made, [Token("reader", (Scope.READ,), digest_of("reader"))])
    return made


def test_a_stream_ends_when_its_token_is_removed(file: Path, tmp_path: Path) -> None:
    """The response ends like any other, and a new request with the token is refused."""
    headers = {"Accept": "text/event-stream", "Authorization": "Bearer reader"}
    with (
        running_cluster(tmp_path, engine="embedded", more='[security]\ntokens = "tokens.toml"\n') as cluster,
        contextlib.closing(http.client.HTTPConnection(cluster.settings.facade.address, timeout=10.0)) as connection,
    ):
        connection.request("GET", "/v1/messages", headers=headers)
        stream = connection.getresponse()
        assert (200, b"retry: 1000\n") == (stream.status, stream.readline())
        tokens.write(file, [])
        assert b"data" not in stream.read()
        connection.request("GET", "/v1/messages", headers=headers)
        assert 401 == connection.getresponse().status
