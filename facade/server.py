"""waitress with our limits, our form of errors, and a stop that answers what was accepted."""

import errno
import logging
import re
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import create_server
from waitress.task import ErrorTask, ThreadedTaskDispatcher, WSGITask
from waitress.utilities import BadRequest, Error

from common import origin
from common.errors import FatalError
from facade import problem
from facade.body import BATCH_BYTES
from facade.limits import CONNECTIONS, HEADER_BYTES, QUEUED, RECEIVE_S, URL_BYTES

log = structlog.get_logger()

UNSENT_BYTES = 1_048_576  # of one answer that its client does not read; then reading the log waits, too
QUICK = ("/livez", "/readyz", "/metrics", "/v1/cluster", "/v1/history", "/v1/limits")  # answered under any load ...
QUICK_THREADS = 4  # ... by these, as are errors; a look at a cluster in which all hang takes one for 0.4 s
TURN_S = 0.1  # for one turn of the loop, so that a stop is noticed within it
STALLED_S = 15.0  # without taking any of its answer, then a client is cut: it holds a thread
QUIET_S = 0.2  # without any request, then a draining server is done: a request on its way is still answered


_ONCE = (b"host", b"content-length", b"transfer-encoding")  # headers of which a second one may mean another request
_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")  # a line that does not end with both

_OVER_LIMIT = {
    HTTPStatus.SERVICE_UNAVAILABLE: "too many requests wait already, nothing was done",
    HTTPStatus.REQUEST_URI_TOO_LONG: f"the URL is over the limit of {URL_BYTES} bytes",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: f"the body is over the limit of {BATCH_BYTES} bytes",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: f"the headers are over the limit of {HEADER_BYTES} bytes",
}


class UrlTooLong(Error):  # type: ignore[misc]  # noqa: N818 (waitress names its own so)
    """Answered as any other error that waitress finds."""

    code = HTTPStatus.REQUEST_URI_TOO_LONG.value
    reason = HTTPStatus.REQUEST_URI_TOO_LONG.phrase


class Overload(Error):  # type: ignore[misc]  # noqa: N818
    """Answered at once when too many requests wait."""

    code = HTTPStatus.SERVICE_UNAVAILABLE.value
    reason = HTTPStatus.SERVICE_UNAVAILABLE.phrase


class Dispatcher(ThreadedTaskDispatcher):  # type: ignore[misc]
    """Gives requests to threads; what is quick has some of its own, so that health is told under any load.

    Args:
        threads: for requests.
        queued: requests that may wait for one of these; one more is refused at once.
    """

    def __init__(self, threads: int, *, queued: int = QUEUED) -> None:
        super().__init__()
        self.refused = 0
        self._queued = queued
        self._quick = ThreadedTaskDispatcher()
        self._quick.set_thread_count(QUICK_THREADS)
        self.set_thread_count(threads)

    def add_task(self, channel: Any) -> None:
        """A connection has a request."""
        request = channel.requests[0]
        if not request.error and request.path not in QUICK and len(self.queue) >= self._queued:
            self.refused += 1
            request.error = Overload("")
        if request.error or request.path in QUICK:
            self._quick.add_task(channel)
        else:
            super().add_task(channel)

    def shutdown(self, cancel_pending: bool = True, timeout: float = 5) -> bool:
        """End all threads."""
        self._quick.shutdown(cancel_pending, timeout)
        return bool(super().shutdown(cancel_pending, timeout))


class Parser(HTTPRequestParser):  # type: ignore[misc]
    """Refuses what servers and proxies read in different ways: with it one request can be hidden in another."""

    def received(self, data: bytes) -> int:
        """Take more of the request; how much of it was taken."""
        if not (self.completed or self.headers_finished):
            head = (self.header_plus + data).partition(b"\r\n\r\n")[0]
            if _BARE.search(head[:HEADER_BYTES]):
                return self._refuse(BadRequest("a line of the headers does not end with CR LF"), len(data))
        return int(super().received(data))

    def parse_header(self, header_plus: bytes) -> None:
        """Read the first line and the headers; raises ParsingError."""
        first_line, *lines = header_plus.split(b"\r\n")
        if len(first_line) > URL_BYTES:
            self._refuse(UrlTooLong(""), 0)
            return
        _refuse_ambiguous(first_line, [line for line in lines if line])
        super().parse_header(header_plus)

    def _refuse(self, error: Error, taken: int) -> int:
        super().parse_header(b"GET / HTTP/1.0\r\n")  # for what else is read of a request
        self.error = error
        self.completed = True
        return taken


def _refuse_ambiguous(first_line: bytes, lines: Sequence[bytes]) -> None:
    if any(line[:1] in (b" ", b"\t") for line in lines):
        raise ParsingError("a header goes on in a second line")
    names = [line.partition(b":")[0].lower() for line in lines]
    if doubled := [name.decode("latin-1") for name in _ONCE if names.count(name) > 1]:
        raise ParsingError(f"{doubled[0]} is given more than once")
    if b"content-length" in names and b"transfer-encoding" in names:
        raise ParsingError("content-length and transfer-encoding exclude each other")
    if first_line.endswith(b" HTTP/1.1") and b"host" not in names:
        raise ParsingError("HTTP/1.1 needs a host header")


class ProblemTask(ErrorTask):  # type: ignore[misc]  # waitress ships no types
    """Answers a request that waitress itself refuses, in the same form as the application does."""

    def execute(self) -> None:
        """Write the problem document and close the connection."""
        error = self.request.error
        headers = getattr(self.request, "headers", {})
        source = origin.received(headers.get("X_REQUEST_ID"), headers.get("TRACEPARENT"))
        origin.begin(source)
        if error.code != HTTPStatus.SERVICE_UNAVAILABLE:  # that would be a flood
            log.info("request refused", status=error.code, reason=error.body)
        body = problem.body(error.code, _OVER_LIMIT.get(error.code, f"this is not valid HTTP: {error.body}"))
        self.status = f"{error.code} {error.reason}"
        self.response_headers.extend(problem.headers(error.code))
        self.response_headers += [("X-Request-ID", source.request_id), *problem.SECURITY]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class LastTask(WSGITask):  # type: ignore[misc]
    """Answers a request; while the server drains, the connection is closed after it."""

    def start(self) -> None:
        """Begin the answer."""
        super().start()
        if not self.channel.server.accepting:
            self.set_close_on_finish()


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection of a client."""

    parser_class = Parser
    task_class = LastTask
    error_task_class = ProblemTask
    began_s = 0.0  # when the first byte of the request came that is being read

    def received(self, data: bytes) -> bool:
        """Take more of the requests of this connection."""
        before = self.request
        taken = super().received(data)
        if self.request is not before:
            self.began_s = time.monotonic()
        return bool(taken)

    def late(self, receive_s: float) -> bool:
        """Whether a request takes longer than that to come; the time of an answer before it is not counted."""
        return bool(self.request is not None and not self.requests and time.monotonic() - self.began_s > receive_s)

    @property
    def busy(self) -> bool:
        """Whether something is still to be read, worked on or sent."""
        return bool(self.requests or self.request or self.total_outbufs_len)


def listen(host: str, port: int) -> socket.socket:
    """A bound socket, which several servers may share; raises FatalError when it cannot be bound."""
    try:
        return socket.create_server((host, port), backlog=CONNECTIONS)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise FatalError(
            f"cannot listen at {host}:{port}: {'the port is taken' if taken else error.strerror}"
        ) from error


def create(application: Callable[..., Any], listening: socket.socket, *, threads: int, queued: int = QUEUED) -> Any:
    """A waitress server on a bound socket.

    waitress' own defaults are a body of 1 GiB, headers of 256 KiB, 16 MiB unsent, 100 connections and 4 threads.
    """
    server = create_server(
        application,
        sockets=[listening],
        _dispatcher=Dispatcher(threads, queued=queued),
        ident=None,
        connection_limit=CONNECTIONS,
        max_request_body_size=BATCH_BYTES,
        channel_request_lookahead=1,  # so that a client that left is noticed while it is answered
        max_request_header_size=HEADER_BYTES,
        outbuf_high_watermark=UNSENT_BYTES,
        log_socket_errors=False,  # a client that left is not our error
    )
    server.channel_class = Channel
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # it warns whenever a request waits for a thread
    return server


def queued(server: Any) -> int:
    """Requests that wait for a thread."""
    return len(server.task_dispatcher.queue)


def refused(server: Any) -> int:
    """Requests that were refused because too many waited."""
    return int(server.task_dispatcher.refused)


def run(
    server: Any,
    stop: threading.Event,
    *,
    drain_s: float,
    stopping_too: Callable[[], object] = lambda: None,
    stalled_s: float = STALLED_S,
    receive_s: float = RECEIVE_S,
) -> None:
    """Serve until `stop` is set; then answer what was accepted, for at most `drain_s`, and return.

    `stopping_too` is called then. A client that takes nothing of its answer for `stalled_s` is cut, and one whose
    request is not whole `receive_s` after its first byte.
    """
    while not stop.is_set():
        _turn(server, stalled_s, receive_s)
    stopping_too()
    _stop_accepting(server)
    ends, quiet_since = time.monotonic() + drain_s, time.monotonic()
    while (now := time.monotonic()) < min(ends, quiet_since + QUIET_S):
        _turn(server, stalled_s, receive_s)
        if any(channel.busy for channel in server.active_channels.values()):
            quiet_since = now
    server.task_dispatcher.shutdown(timeout=QUIET_S)
    wasyncore.close_all(server._map)


def _turn(server: Any, stalled_s: float, receive_s: float) -> None:
    """Read and write what can be, then cut who takes too long."""
    wasyncore.loop(timeout=TURN_S, use_poll=True, map=server._map, count=1)
    _cut_stalled(server, stalled_s)
    _cut_late(server, receive_s)


def _cut_stalled(server: Any, stalled_s: float) -> None:
    """Waitress itself waits for such a client as long as it stays connected."""
    since = time.time() - stalled_s  # the clock of waitress' last_activity
    for channel in list(server.active_channels.values()):
        if channel.total_outbufs_len and channel.last_activity < since:
            log.warning("client cut, it takes nothing of its answer", unsent_bytes=channel.total_outbufs_len)
            channel.handle_close()


def _cut_late(server: Any, receive_s: float) -> None:
    for channel in list(server.active_channels.values()):
        if channel.late(receive_s):
            channel.handle_close()


def _stop_accepting(server: Any) -> None:
    """Take the connections that the kernel has made already, then refuse new ones."""
    with selectors.DefaultSelector() as waiting:
        waiting.register(server.socket, selectors.EVENT_READ)
        for _ in range(CONNECTIONS):
            if not waiting.select(timeout=0):
                break
            server.handle_accept()
    server.accepting = False
    wasyncore.dispatcher.close(server)
