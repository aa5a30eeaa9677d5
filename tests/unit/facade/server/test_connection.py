"""Tests of facade.server.connection: one client on a real socket."""

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from common.config import Limits
from common.hostport import split
from facade.server import server
from facade.server.parser import DEFAULT
from facade.server.scheduler import CONNECTION_CLOSED, Scheduler
from tests.support.servers import hello, raw_response, respond, serving_http
from tests.support.waiting import eventually

GET = b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def address() -> Iterator[str]:
    """The address of a server that answers every request."""
    with serving_http(hello) as running:
        yield running.address


@pytest.mark.parametrize(
    ("sent", "status", "message"),
    [
        (b"nonsense\r\n\r\n", 400, "this is not valid HTTP: "),
        (b"GET /" + b"x" * 8_192 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "the URL is over the limit of 8192 bytes"),
        (GET.replace(b"Host", b"X: " + b"x" * 20_000 + b"\r\nHost") % b"", 431, "over the limit of 16384 bytes"),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (DEFAULT.batch_bytes + 1),
            413,
            "the body is over the limit of 10485760 bytes",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 999999999\r\n\r\n",
            413,
            "the body is over the limit of 10485760 bytes",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1;" + b"1" * 65_536,
            400,
            "chunk extensions or trailers are over the limit of 16384 bytes",
        ),
    ],
)
def test_a_rejected_request_is_answered_with_a_problem_document(
    address: str, sent: bytes, status: int, message: str
) -> None:
    """The response has the form of every error, and the connection is closed."""
    answered, headers, body = raw_response(address, sent)

    assert (status, "application/problem+json") == (answered, headers["content-type"])
    assert {"type", "title", "status", "detail", "message", "request_id", "traceparent"} == json.loads(body).keys()
    assert message in json.loads(body)["message"]


def test_a_rejected_client_of_http_1_0_reads_that_the_connection_is_closed(address: str) -> None:
    """A client that asks to keep it gets one header Connection, and that says close."""
    with socket.create_connection(split(address), timeout=10.0) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\nNoColon\r\n\r\n")
        head = connection.makefile("rb").read().partition(b"\r\n\r\n")[0].lower()

    assert [b"connection: close"] == [line for line in head.split(b"\r\n") if line.startswith(b"connection:")]


def test_a_rejected_head_request_gets_no_body(address: str) -> None:
    """The headers are those of the response to a GET, and nothing follows them."""
    with socket.create_connection(split(address), timeout=10.0) as connection:
        connection.sendall(b"HEAD http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")

    assert (True, b"") == (head.startswith(b"HTTP/1.1 400 Bad Request"), body)


def test_nothing_follows_the_head_of_a_response_to_head() -> None:
    """Not even the end of a chunked body, which the client would take for the begin of the next response."""

    def stream(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [])
        return iter(())

    with serving_http(stream) as running, socket.create_connection(split(running.address), timeout=10.0) as client:
        client.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" * 2 + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        *heads, body = client.makefile("rb").read().split(b"\r\n\r\n", 3)

    assert 3 == len(heads)
    for head in heads:
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert head.endswith(b"Transfer-Encoding: chunked")
    assert b"0\r\n\r\n" == body


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_a_request_that_expects_100_continue_without_a_body_is_answered(address: str, method: bytes) -> None:
    """There is nothing to continue, so the response comes at once."""
    expects = b" / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    assert (200, b"hello") == (response := raw_response(address, method + expects))[::2], response


@pytest.mark.parametrize(
    "incomplete",
    [
        b"",
        b"GET / HT",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET",
    ],
)
def test_a_connection_with_an_incomplete_request_is_closed_in_time(incomplete: bytes) -> None:
    """No request, a slow header, a slow body, or a slow second request: other clients are answered meanwhile."""
    with (
        serving_http(hello, Limits(receive_s=0.3)) as running,
        socket.create_connection(split(running.address), timeout=10.0) as slow,
    ):
        slow.sendall(incomplete)
        connection = http.client.HTTPConnection(*split(running.address), timeout=10.0)
        connection.request("GET", "/")
        assert 200 == connection.getresponse().status
        connection.close()
        while slow.recv(1_000):
            pass


@pytest.mark.parametrize(
    ("sent", "answers", "closed"),
    [
        (GET % b"a", [b"HTTP/1.1 503"], False),
        (GET % b"a" * 2, [b"HTTP/1.1 503"] * 2, False),
        (b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", [b"HTTP/1.1 503"], True),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", [b"HTTP/1.1 503"], True),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", [b"HTTP/1.0 503"], True),
        (b"nonsense\r\n\r\n", [b"HTTP/1.0 400"], True),
    ],
)
def test_a_request_that_is_refused_under_load_keeps_its_connection_if_it_can(
    sent: bytes, answers: list[bytes], *, closed: bool
) -> None:
    """The client gets a complete response, and may send the next request on the same connection."""
    started, scheduler = threading.Semaphore(0), Scheduler()
    may_end = scheduler.event()

    def slow(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        started.release()
        may_end.wait()
        return hello(environ, start_response)

    with serving_http(slow, Limits(queued=1), scheduler) as running, contextlib.ExitStack() as stack:
        *others, connection = (
            stack.enter_context(socket.create_connection(split(running.address), timeout=10.0)) for _ in range(4)
        )
        for other in others:
            other.sendall(GET % b"held")
        assert all(started.acquire(timeout=5.0) for _ in range(2))
        eventually(lambda: server.queued(running.server) == 1)
        connection.sendall(sent)
        received = b""
        while received.count(b"HTTP/1.") < len(answers) or (closed and connection.recv(1, socket.MSG_PEEK)):
            received += connection.recv(65_536)
        may_end.set()
        assert [b"HTTP/1.1 200"] * 3 == [other.recv(65_536)[:12] for other in others]
        if not closed:
            connection.sendall(GET % b"again")
            assert b"HTTP/1.1 200" == connection.recv(65_536)[:12]

    heads = [b"HTTP/1." + part[:5] for part in received.split(b"HTTP/1.")[1:]]
    assert (answers, closed) == (heads, b"connection: close" in received.lower())
    assert not (sent.startswith(b"HEAD") and received.partition(b"\r\n\r\n")[2])


def test_a_request_in_pieces_of_one_byte_is_answered(address: str) -> None:
    """A slow client is served like any other, if its request is complete in time."""
    with socket.create_connection(split(address), timeout=10.0) as connection:
        for byte in b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\n\n\r\n":
            connection.sendall(bytes([byte]))
        assert b"HTTP/1.1 200" == connection.recv(12)


def test_a_body_that_breaks_off_does_not_look_complete() -> None:
    """If the application fails in the middle of a stream, the client notices."""

    def breaks(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"begin"
        raise ConnectionAbortedError("all nodes died")

    with (
        serving_http(breaks) as running,
        contextlib.closing(http.client.HTTPConnection(running.address, timeout=10.0)) as connection,
    ):
        connection.request("GET", "/")
        with pytest.raises(http.client.IncompleteRead):
            connection.getresponse().read()


def test_a_client_that_does_not_read_its_response_is_disconnected() -> None:
    """Two such clients take both requests that may run at once; then a third client is served."""

    def endless(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        if environ["PATH_INFO"] == "/":
            yield from hello(environ, start_response)
            return
        start_response("200 OK", [("Content-Type", "text/plain")])
        for _ in range(1_000):
            yield b"x" * 100_000

    with serving_http(endless, Limits(stalled_s=0.5)) as running:
        stalled = [socket.create_connection(split(running.address), timeout=10.0) for _ in range(2)]
        for connection in stalled:
            connection.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        reader = http.client.HTTPConnection(*split(running.address), timeout=10.0)
        reader.request("GET", "/")
        assert b"hello" == reader.getresponse().read()
        reader.close()
        for connection in stalled:
            connection.close()


def test_an_application_learns_that_its_client_has_left() -> None:
    """An event in the WSGI environment is set, so that the application does not have to poll."""
    started, left, scheduler = threading.Event(), threading.Event(), Scheduler()

    def wait(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        started.set()
        if environ[CONNECTION_CLOSED].wait(5.0):
            left.set()
        return hello(environ, start_response)

    with serving_http(wait, scheduler=scheduler) as running:
        with socket.create_connection(split(running.address), timeout=10.0) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert started.wait(5.0)
        assert left.wait(3.0)


def echo(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Answer with the path."""
    return respond(start_response, "200 OK", environ["PATH_INFO"].encode())


@pytest.mark.parametrize("count", [1, 2, 7, 300])
def test_a_client_that_half_closes_gets_an_answer_to_each_complete_request(count: int) -> None:
    """`nc -N` and many scripts send their requests, close their side, and read."""
    with serving_http(echo) as running, socket.create_connection(split(running.address), timeout=10.0) as client:
        client.sendall(b"".join(GET % b"%d" % number for number in range(count)))
        client.shutdown(socket.SHUT_WR)
        received = client.makefile("rb").read()

    assert [f"/{number}" for number in range(count)] == [
        part.partition(b"\r\n\r\n")[2].decode() for part in received.split(b"HTTP/1.1 200 OK")[1:]
    ]


def test_a_slow_request_of_a_half_closed_client_is_answered() -> None:
    """The answer arrives although the client closed its side before the application was done."""
    half_closed = threading.Event()

    def slow(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        assert environ[CONNECTION_CLOSED].wait(5.0)  # is also set when the client will send nothing more
        half_closed.set()
        return hello(environ, start_response)

    with serving_http(slow) as running, socket.create_connection(split(running.address), timeout=10.0) as client:
        client.sendall(GET % b"")
        client.shutdown(socket.SHUT_WR)
        assert client.makefile("rb").read().endswith(b"hello")

    assert half_closed.is_set()


def test_an_incomplete_request_of_a_half_closed_client_is_not_awaited(address: str) -> None:
    """The requests before it are answered; then the connection is closed at once."""
    with socket.create_connection(split(address), timeout=3.0) as client:
        client.sendall(GET % b"" + b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf")
        client.shutdown(socket.SHUT_WR)
        assert 1 == client.makefile("rb").read().count(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (b"GET / HT", True),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf", True),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nha", True),
        (b"", False),
        (b"\r\n", True),
    ],
)
def test_a_request_that_is_not_complete_in_time_is_408(sent: bytes, *, answered: bool) -> None:
    """The client reads which deadline it missed; a connection without any request is closed without a word."""
    limits = Limits(receive_s=0.2)
    with (
        serving_http(hello, limits) as running,
        socket.create_connection(split(running.address), timeout=10.0) as client,
    ):
        client.sendall(sent)
        head, _, body = client.makefile("rb").read().partition(b"\r\n\r\n")

    assert (b"HTTP/1.1 408 " in head or b"HTTP/1.0 408 " in head) is answered
    assert (b"its head may take 0.2 s, and its body must arrive at 1024 bytes a second" in body) is answered


def test_a_slow_body_is_received_as_long_as_it_keeps_the_minimum_rate() -> None:
    """A long upload over a slow line takes many times `receive_s`."""
    limits = Limits(receive_s=0.3, body_bytes_per_s=1_024)
    with (
        serving_http(hello, limits) as running,
        socket.create_connection(split(running.address), timeout=10.0) as client,
    ):
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8192\r\nConnection: close\r\n\r\n")
        for _ in range(8):
            client.sendall(b"x" * 1_024)
            assert not threading.Event().wait(0.15)
        assert b"HTTP/1.1 200" == client.recv(12)
