"""Tests of scripts.client.connection, with a small HTTP server."""

import json
import socket
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from scripts.client.connection import BrokenConnectionError, HttpClient, HttpStatusError, NotConnectedError, client
from tests.support.servers import Serve, respond


class Facade:
    """A WSGI application that answers each request with the next reply.

    Args:
        replies: the status line and the body of each reply; the last one is repeated.

    Attributes:
        seen: method, path, bearer token, idempotency key and body of each request.
        ports: the port of the client, which differs between connections, of each request.
    """

    def __init__(self, *replies: tuple[str, str]) -> None:
        self._replies = replies
        self.seen: list[tuple[str, ...]] = []
        self.ports: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        """Answer a request."""
        status, text = self._replies[min(len(self.seen), len(self._replies) - 1)]
        headers = [environ.get(name, "") for name in ("HTTP_AUTHORIZATION", "HTTP_IDEMPOTENCY_KEY")]
        body = environ["wsgi.input"].read().decode()
        self.seen.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], *headers, body))
        self.ports.append(environ["REMOTE_PORT"])
        return respond(start_response, status, text.encode(), ("X-Node", "n:1"))


def test_a_message_is_posted_with_its_key_and_the_token(serve: Serve) -> None:
    """Without them the headers are missing, too; the reply has names of headers in lower case."""
    facade = Facade(("201 Created", '{"id": "1"}'))
    address = serve(facade)
    with closing(HttpClient(address, "secret")) as one, closing(HttpClient(address)) as other:
        reply = one.post("é", key="order-7")
        other.post("x")

    assert ("POST", "/facade", "Bearer secret", "order-7") == facade.seen[0][:4]
    assert {"msg": "é"} == json.loads(facade.seen[0][4])
    assert ("", "") == facade.seen[1][2:4]
    assert (201, "n:1", {"id": "1"}) == (reply.status, reply.headers["x-node"], reply.document)


def test_a_refused_read_is_an_error_with_the_status_and_the_reason(serve: Serve) -> None:
    """The client can be used afterwards."""
    facade = Facade(("503 Busy", '{"message": "no node"}'), ("200 OK", '{"logs": ["a", "b"]}'))
    with client(serve(facade)) as one:
        with pytest.raises(HttpStatusError, match="503: no node") as caught:
            one.read()
        assert ["a", "b"] == one.read()

    assert 503 == caught.value.status


def test_a_reply_that_is_no_document_does_not_spoil_the_next_one(serve: Serve) -> None:
    """A proxy may send it."""
    facade = Facade(("200 OK", "<html>"), ("200 OK", '{"logs": []}'))
    with client(serve(facade)) as one:
        with pytest.raises(ValueError, match="the reply is not a JSON object"):
            one.read()
        assert [] == one.read()


def test_calls_share_one_connection_until_it_is_closed(serve: Serve) -> None:
    """A later call opens another one."""
    facade = Facade(("200 OK", '{"logs": []}'))
    with client(serve(facade)) as one:
        one.read()
        one.read()
    one.read()
    one.close()

    first, second, third = facade.ports
    assert first == second != third


def test_a_streamed_reply_is_read_by_lines(serve: Serve) -> None:
    """Line ends are removed, empty lines stay; a refusal is an error with its reason."""
    facade = Facade(("200 OK", "one\r\n\ntwo é"), ("401 No", '{"message": "no token"}'))
    with client(serve(facade)) as one:
        assert ["one", "", "two é"] == list(one.lines("/v1/messages", {}))
        with pytest.raises(HttpStatusError, match="401: no token"):
            list(one.lines("/v1/messages", {}))


def test_a_connection_that_was_not_made_is_told_from_one_that_broke() -> None:
    """Only after the first it is known that nothing was sent."""
    with closing(HttpClient("127.0.0.1:9")) as one, pytest.raises(NotConnectedError, match="Connection refused"):
        one.post("x")
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            listening.accept()[0].close()

        thread = threading.Thread(target=accept)
        thread.start()
        one = HttpClient(f"127.0.0.1:{listening.getsockname()[1]}")
        with closing(one), pytest.raises(BrokenConnectionError, match=r"closed connection|reset"):
            one.post("x")
        thread.join(10.0)
