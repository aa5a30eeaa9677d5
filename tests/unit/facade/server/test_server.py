"""Tests of facade.server: a real waitress on a real socket."""

import contextlib
import http.client
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from waitress.adjustments import Adjustments

from common.config import Limits, split
from common.errors import FatalError
from facade import workers
from facade.server import server
from facade.server.parser import DEFAULT, Parser
from facade.server.scheduler import CONNECTION_CLOSED, Scheduler
from facade.server.validation import Rejection
from scripts.launcher.ports import free_addresses
from tests.support.waiting import eventually

Application = Callable[..., Any]


def hello(_environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Answers everything."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


@contextmanager
def serving(application: Application, limits: Limits = DEFAULT, scheduler: Scheduler | None = None) -> Iterator[str]:
    """A server in a thread, which works on two requests at once; its address."""
    (address,) = free_addresses(1)
    host, port = split(address)
    scheduler = scheduler or Scheduler()
    made = server.create(scheduler, application, workers.listen(host, port), requests=2, limits=limits)
    stop = scheduler.event()
    thread = threading.Thread(target=server.run, args=(made, stop), kwargs={"drain_s": 10.0})
    thread.start()
    try:
        yield address
    finally:
        stop.set()
        thread.join()


def held(scheduler: Scheduler, go: threading.Event) -> None:
    """Return when another thread says so; other requests go on meanwhile."""
    while not go.is_set():
        scheduler.sleep(0.005)


@pytest.fixture
def address() -> Iterator[str]:
    """Where the application answers."""
    with serving(hello) as listening:
        yield listening


def raw(address: str, sent: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer to raw bytes; the server must close the connection."""
    with socket.create_connection(split(address), timeout=10.0) as connection:
        connection.sendall(sent)
        response = http.client.HTTPResponse(connection)
        response.begin()
        body = response.read()
        with contextlib.suppress(ConnectionResetError):  # closed while it was still sending
            assert b"" == connection.recv(1)
        return response.status, {name.lower(): value for name, value in response.getheaders()}, body


def test_a_request_is_answered(address: str) -> None:
    """An ordinary request reaches the application, and no header names the server."""
    connection = http.client.HTTPConnection(*split(address), timeout=10.0)
    connection.request("GET", "/")
    response = connection.getresponse()

    assert (200, b"hello", None) == (response.status, response.read(), response.getheader("server"))
    connection.close()


@pytest.mark.parametrize(
    ("sent", "status", "message"),
    [
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (DEFAULT.batch_bytes + 1),
            413,
            "the body is over the limit of 10485760 bytes",
        ),
        (
            b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
            431,
            "the headers are over the limit of 16384 bytes",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
            400,
            "this is not valid HTTP: Invalid character in Content-Length",
        ),
        (b"nonsense\r\n\r\n", 400, "this is not valid HTTP: "),
        (b"GET /" + b"x" * 8_192 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "the URL is over the limit of 8192 bytes"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "HTTP/1.1 needs a host header"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400, "host is given more than once"),
        (b"\r\n GET / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "Invalid method"),
        (b"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "Invalid char in url path"),
        (b"GET / HTTP/1.1\nHost: x\n\n", 400, "Expected CRLF after version"),
        (b"GET / HTTP/1.1\r\nHost: x\rX: y\r\n\r\n", 400, "Missing expected LF after header value"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: y\r\n z\r\n\r\n", 400, "Unexpected whitespace after header value"),
        (b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "the URL is not valid"),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 999999999\r\n\r\n",
            413,
            "the body is over the limit of 10485760 bytes",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            "Transfer-Encoding can't be present with Content-Length",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            "Invalid `Transfer-Encoding` header value",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            400,
            "Duplicate Content-Length",
        ),
        *(
            (
                b"POST / %s\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % rest,
                400,
                "this is not valid HTTP: Expected CRLF after version",
            )
            for rest in (b"HTTP/1.0 ", b"HTTP/1.1 ")
        ),
        *(
            (first + b"\r\nHost: x\r\n\r\n", 400, "the first line must be METHOD URL")
            for first in (
                *(b"GET / HTTP/2.0", b"GET /  HTTP/1.1", b"GET  / HTTP/1.1", b"GET / RTSP/1.0", b"SOURCE / ICE/1.0"),
                b"GET /\r\n",
            )
        ),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "CONNECT is for proxies"),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400, "not 'gzip, chunked'"),
        (
            b"PUT / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            "a request for an upgrade may not have a body in chunks",
        ),
        *(
            (
                b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + line + b"hi\r\n0\r\n\r\n",
                400,
                "in chunk size" if line not in {b"2\n", b"2\n\r\n"} else "after chunk size",
            )
            for line in (b"2\n", b"\r\n2\r\n", b"+2\r\n", b"0x2\r\n", b"2\n\r\n")
        ),
        *(
            (
                b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + line + b"\r\n",
                400,
                "this is not valid HTTP: " + wrong,
            )
            for line, wrong in (
                (b"GET / HTTP/1.1\r\n", "Invalid header token"),
                (b"X: y\n", "Missing expected CR after header value"),
                (b" X: y\r\n", "Invalid header token"),
                (b"X : y\r\n", "Invalid header token"),
                (b"X: \0\r\n", "Invalid header value char"),
            )
        ),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1;" + b"1" * 65_536,
            400,
            "chunk extensions or trailers are over the limit of 16384 bytes",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 8_192,
            400,
            "chunk extensions or trailers are over the limit of 16384 bytes",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
            400,
            "this is not valid HTTP: Request has invalid `Transfer-Encoding`",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked, chunked\r\n\r\n0\r\n\r\n",
            400,
            "Invalid `Transfer-Encoding` header value",
        ),
        (
            b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            "HTTP/1.0 has no transfer-encoding",
        ),
    ],
)
def test_what_waitress_refuses_has_the_form_of_every_error(
    address: str, sent: bytes, status: int, message: str
) -> None:
    """A body or a header over its limit, or no HTTP at all, is a problem document, and the connection is closed."""
    answered, headers, body = raw(address, sent)

    assert (status, "application/problem+json") == (answered, headers["content-type"])
    assert {"type", "title", "status", "message", "request_id", "traceparent"} == json.loads(body).keys()
    assert message in json.loads(body)["message"]


def test_a_refused_client_is_not_told_that_the_connection_is_kept(address: str) -> None:
    """One that asks in HTTP/1.0 to keep it reads one `Connection` header, and it says that it is closed."""
    with socket.create_connection(split(address), timeout=10.0) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\nNoColon\r\n\r\n")
        head = connection.makefile("rb").read().partition(b"\r\n\r\n")[0].lower()

    assert [b"connection: close"] == [line for line in head.split(b"\r\n") if line.startswith(b"connection:")]


def test_a_request_without_a_first_line_has_a_path() -> None:
    """None: for waitress logs it when the client has left, and without it the connection would never be given up."""
    parser = Parser(Adjustments())
    parser.received(b"GET / HTTP/1.0\r\nNoColon\r\n\r\n")

    assert (Rejection(400, "Invalid header token"), "", "") == (parser.error, parser.path, parser.command)


def test_a_refused_head_has_no_body(address: str) -> None:
    """Its headers are those of the answer to a GET, and nothing follows them."""
    with socket.create_connection(split(address), timeout=10.0) as connection:
        connection.sendall(b"HEAD http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")

    assert (True, b"") == (head.startswith(b"HTTP/1.1 400 Bad Request"), body)


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_who_expects_a_continue_without_a_body_is_answered(address: str, method: bytes) -> None:
    """Without a body, or with one that is refused, nothing is to be continued: the answer comes at once."""
    expects = b" / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    assert (200, b"hello") == (answered := raw(address, method + expects))[::2], answered


@pytest.mark.parametrize(
    "begin",
    [
        b"",
        b"GET / HT",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET",
    ],
)
def test_a_request_that_does_not_come_to_its_end_is_closed(begin: bytes) -> None:
    """Nothing, a slow header, a slow body, a slow second request: others are answered meanwhile, it is cut in time."""
    with (
        serving(hello, Limits(receive_s=0.3)) as listening,
        socket.create_connection(split(listening), timeout=10.0) as slow,
    ):
        slow.sendall(begin)
        connection = http.client.HTTPConnection(*split(listening), timeout=10.0)
        connection.request("GET", "/")
        assert 200 == connection.getresponse().status
        connection.close()
        while slow.recv(1_000):
            pass


def test_who_is_one_too_many_is_told_at_once_and_health_always() -> None:
    """Two are at work and one waits; the next is 503 within 50 ms, /livez is answered, the others in their turn."""
    go, at_work, scheduler = threading.Event(), threading.Semaphore(0), Scheduler()

    def slow(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        if environ["PATH_INFO"] != "/livez":
            at_work.release()
            held(scheduler, go)
        return hello(environ, start_response)

    with serving(slow, Limits(queued=1), scheduler) as listening, contextlib.ExitStack() as stack:
        clients = [http.client.HTTPConnection(*split(listening), timeout=10.0) for _ in range(5)]
        for client in clients:
            stack.callback(client.close)
        for client in clients[:2]:
            client.request("GET", "/")
            assert at_work.acquire(timeout=5.0)
        for client in clients[2:4]:
            client.request("GET", "/")
        began = time.perf_counter()
        told, _, _ = select.select([client.sock for client in clients[2:4]], [], [], 5.0)
        took_s = time.perf_counter() - began
        (refused,) = [client for client in clients[2:4] if client.sock in told]
        answer = refused.getresponse()
        clients[4].request("GET", "/livez")
        assert 200 == clients[4].getresponse().status
        go.set()
        waited = [client.getresponse().status for client in clients[:4] if client is not refused]

    assert [200] * 3 == waited
    assert (503, "1") == (answer.status, answer.headers["retry-after"])
    assert took_s < 0.05


GET = b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n"


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
def test_a_refusal_ends_as_its_client_expects(sent: bytes, answers: list[bytes], *, closed: bool) -> None:
    """While all places are taken, and one waits: on the same connection if that goes on."""
    go, at_work, scheduler = threading.Event(), threading.Semaphore(0), Scheduler()

    def slow(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        at_work.release()
        held(scheduler, go)
        return hello(environ, start_response)

    with serving(slow, Limits(queued=1), scheduler) as listening, contextlib.ExitStack() as stack:
        connections = [stack.enter_context(socket.create_connection(split(listening), timeout=10.0)) for _ in range(4)]
        for connection in connections[:3]:
            connection.sendall(GET % b"held")
        assert all(at_work.acquire(timeout=5.0) for _ in range(2))
        time.sleep(0.1)  # until the third one waits
        connection = connections[3]
        connection.sendall(sent)
        came = b""
        while came.count(b"HTTP/1.") < len(answers) or (closed and connection.recv(1, socket.MSG_PEEK)):
            came += connection.recv(65_536)
        go.set()
        assert [b"HTTP/1.1 200"] * 3 == [one.recv(65_536)[:12] for one in connections[:3]]
        if not closed:
            connection.sendall(GET % b"again")
            assert b"HTTP/1.1 200" == connection.recv(65_536)[:12]

    heads = [b"HTTP/1." + part[:5] for part in came.split(b"HTTP/1.")[1:]]
    assert (answers, closed) == (heads, b"connection: close" in came.lower())
    assert not (sent.startswith(b"HEAD") and came.partition(b"\r\n\r\n")[2])


def test_headers_after_the_last_chunk_are_dropped() -> None:
    """However many they are, up to the limit; they do not change those of the request."""
    parser = Parser(Adjustments(max_request_header_size=20_000))
    sent = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n" + b"a:\r\n" * 4_000
    while sent:
        sent = sent[parser.received(sent[:8_192]) :]
    assert not parser.completed
    parser.received(b"\r\n")

    assert (True, None, b"hi") == (parser.completed, parser.error, parser.get_body_stream().read())
    assert {"HOST": "x", "CONTENT_LENGTH": "2"} == parser.headers
    parser.close()


def test_a_chunk_is_read_as_a_whole() -> None:
    """One of nothing but ends of lines, which kept the loop for seconds: llhttp is not called for each."""
    parser, fed = Parser(Adjustments()), list[int]()
    feed = parser._feed

    def counted(piece: bytes) -> bool:
        fed.append(len(piece))
        return feed(piece)

    parser._feed = counted  # type: ignore[method-assign]
    sent = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4E20\r\n%b\r\n0\r\n\r\n" % (b"\n" * 20_000)
    while sent:
        sent = sent[parser.received(sent[:8_192]) :]

    assert (True, None, 20_000) == (parser.completed, parser.error, len(parser.get_body_stream().read()))
    assert len(fed) < 10, fed
    parser.close()


CHUNKS = b"3;x=y\r\n\n\r\n\r\n2\r\nbc\r\n0\r\nX: y\r\n\r\n"
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"


@pytest.mark.parametrize("piece", [1, 7, 8_192])
@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (b"\r\n\r\nPOST /a%20b?c=%20 HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\na\r\n\r\nb", b"a\r\n\r\nb"),
        (
            b"POST /a%20b?c=%20 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n" + CHUNKS,
            b"\n\r\nbc",
        ),
        (
            b"POST http://x/a%20b?c=%20 HTTP/1.1\r\nHost: x\r\n" + UPGRADE + b"Content-Length: 2\r\n\r\nhi",
            b"hi",
        ),
        (b"GET /a%20b?c=%20 HTTP/1.1\r\nHost: x\r\n\r\n", b""),
    ],
)
def test_a_request_ends_where_it_ends(sent: bytes, body: bytes, piece: int) -> None:
    """In pieces of any size; what follows it is left to the next one."""
    parser, taken, more = Parser(Adjustments()), 0, sent + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    while not parser.completed:
        taken += parser.received(more[taken : taken + piece])

    assert (len(sent), None) == (taken, parser.error)
    assert ("/a b", "c=%20", body) == (parser.path, parser.query, parser.get_body_stream().read())
    parser.close()


def test_health_is_told_beside_clients_that_ask_for_it_and_do_not_read() -> None:
    """Each would hold one of the threads that tell it."""

    def large(_environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "500000")])
        return [b"x" * 500_000]

    with serving(large) as listening, contextlib.ExitStack() as stack:
        for _ in range(4):
            deaf = stack.enter_context(socket.create_connection(split(listening), timeout=10.0))
            deaf.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 100 + b"nonsense\r\n\r\n")
            assert select.select([deaf], [], [], 10.0)[0]
        for _ in range(20):
            status, _, _ = raw(listening, b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert 200 == status


def test_health_is_told_when_all_connections_are_taken() -> None:
    """Clients that say nothing hold all connections: another one gets 503, /livez is answered, then both are closed."""
    with serving(hello, Limits(connections=8)) as listening, contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(socket.create_connection(split(listening), timeout=10.0))
        answers = [raw(listening, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()) for path in ("/livez", "/facade")]
        silent = stack.enter_context(socket.create_connection(split(listening), timeout=10.0))
        assert b"" == silent.recv(1)  # one that says nothing does not stay there

    assert [200, 503] == [status for status, _, _ in answers]
    assert b"too many connections are open already" in answers[1][2]


def test_a_request_in_small_pieces_is_answered(address: str) -> None:
    """What is slow but whole in time is as good as any; a CR at the end of a piece is not yet a bare one."""
    with socket.create_connection(split(address), timeout=10.0) as connection:
        for byte in b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\n\n\r\n":
            connection.sendall(bytes([byte]))
        assert connection.recv(12) == b"HTTP/1.1 200"


def test_a_body_that_breaks_off_is_not_whole(address: str) -> None:
    """When the application gives up in the middle of a stream, the client can tell."""
    del address

    def breaks(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"begin"
        raise ConnectionAbortedError("all nodes died")

    with serving(breaks) as listening:
        connection = http.client.HTTPConnection(*split(listening), timeout=10.0)
        connection.request("GET", "/")
        with pytest.raises(http.client.IncompleteRead):
            connection.getresponse().read()
        connection.close()


def test_what_was_accepted_is_answered_before_the_server_stops() -> None:
    """Requests that a stopping server works on, and those that wait for their turn, are answered."""
    entered, release, scheduler = threading.Semaphore(0), threading.Event(), Scheduler()

    def slow(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        entered.release()
        held(scheduler, release)
        return hello(environ, start_response)

    connections = []
    with serving(slow, scheduler=scheduler) as listening:
        for _ in range(4):  # two are worked on, two wait
            connection = http.client.HTTPConnection(*split(listening), timeout=10.0)
            connection.request("GET", "/")
            connections.append(connection)
        assert all(entered.acquire(timeout=5.0) for _ in range(2))
        threading.Timer(0.3, release.set).start()

    for connection in connections:
        assert b"hello" == connection.getresponse().read()
        connection.close()


def test_a_client_that_takes_nothing_is_cut_and_its_place_is_free() -> None:
    """Two places, two clients that never read their long answers, and a third one that is served all the same."""

    def endless(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        if environ["PATH_INFO"] == "/":
            yield from hello(environ, start_response)
            return
        start_response("200 OK", [("Content-Type", "text/plain")])
        for _ in range(1_000):
            yield b"x" * 100_000

    with serving(endless, Limits(stalled_s=0.5)) as listening:
        stalled = [socket.create_connection(split(listening), timeout=10.0) for _ in range(2)]
        for connection in stalled:
            connection.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        ordinary = http.client.HTTPConnection(*split(listening), timeout=10.0)
        ordinary.request("GET", "/")
        assert b"hello" == ordinary.getresponse().read()
        ordinary.close()
        for connection in stalled:
            connection.close()


def test_a_taken_port_is_one_sentence(address: str) -> None:
    """A second facade at an address says what is wrong."""
    host, port = split(address)

    with pytest.raises(FatalError, match=f"cannot listen at {address}: the port is taken"):
        workers.listen(host, port)


def test_an_address_of_another_machine_is_one_sentence() -> None:
    """What the system says is told."""
    with pytest.raises(FatalError, match=r"cannot listen at 192\.0\.2\.1:5000: "):
        workers.listen("192.0.2.1", 5_000)


def test_all_connections_that_wait_are_taken_in_one_turn() -> None:
    """Waitress takes one in each turn of its loop: the last would wait for as many turns."""
    with contextlib.ExitStack() as stack:
        (address,) = free_addresses(1)
        host, port = split(address)
        made = server.create(scheduler := Scheduler(), hello, workers.listen(host, port), requests=2)
        clients = [stack.enter_context(socket.create_connection((host, port), timeout=10.0)) for _ in range(50)]
        assert 0 == len(made.active_channels)
        server._turn(made)
        taken = len(made.active_channels)
        stop = scheduler.event()
        stop.set()
        server.run(made, stop, drain_s=1.0)

    assert len(clients) == taken


def turned(made: Any, probe: Callable[[], object]) -> None:
    """Turn the loop of a server until something is so."""
    eventually(probe, timeout_s=5.0, pause=partial(server._turn, made))


@contextmanager
def turning() -> Iterator[tuple[Any, socket.socket]]:
    """A server whose loop a test turns, and a client that has asked once and has its answer."""
    with contextlib.ExitStack() as stack:
        (address,) = free_addresses(1)
        made = server.create(scheduler := Scheduler(), hello, workers.listen(*split(address)), requests=2)
        client = stack.enter_context(socket.create_connection(split(address), timeout=10.0))
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        turned(made, lambda: select.select([client], [], [], 0.0)[0])
        assert client.recv(10_000).endswith(b"hello")
        yield made, client
        stop = scheduler.event()
        stop.set()
        server.run(made, stop, drain_s=1.0)


def test_a_connection_that_is_idle_for_too_long_is_closed() -> None:
    """Waitress finds it and only marks it: it is not asked again whether it wants to write."""
    with turning() as (made, client):
        made.adj.channel_timeout = made.adj.cleanup_interval = made.next_channel_cleanup = 0
        turned(made, lambda: not made.active_channels)
        assert b"" == client.recv(1)


def test_urgent_data_does_not_make_the_loop_spin() -> None:
    """Nobody takes it, and it would be told in each turn."""
    with turning() as (made, client):
        client.send(b"!", socket.MSG_OOB)
        server._turn(made)
        before = made.scheduler.turns
        ends_s = time.monotonic() + 0.3
        turned(made, lambda: time.monotonic() > ends_s)
        assert made.scheduler.turns - before < 20


def test_an_application_hears_that_its_client_has_left() -> None:
    """Without asking again and again."""
    begun, left, scheduler = threading.Event(), threading.Event(), Scheduler()

    def waiting(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        begun.set()
        if environ[CONNECTION_CLOSED].wait(5.0):
            left.set()
        return hello(environ, start_response)

    with serving(waiting, scheduler=scheduler) as listening:
        with socket.create_connection(split(listening), timeout=10.0) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert begun.wait(5.0)
        assert left.wait(3.0)
