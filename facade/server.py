"""waitress with our limits, our form of errors, and a stop that answers what was accepted."""

import errno
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import structlog
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import create_server
from waitress.task import ErrorTask, WSGITask

from common import origin
from common.errors import FatalError
from facade import problem
from facade.body import BATCH_BYTES

log = structlog.get_logger()

HEADER_BYTES = 16_384  # of all headers of one request
UNSENT_BYTES = 1_048_576  # of one answer that its client does not read; then reading the log waits, too
CONNECTIONS = 512  # at once; one more waits in the listening socket
TURN_S = 0.1  # for one turn of the loop, so that a stop is noticed within it
STALLED_S = 15.0  # without taking any of its answer, then a client is cut: it holds a thread
QUIET_S = 0.2  # without any request, then a draining server is done: a request on its way is still answered


_OVER_LIMIT = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: f"the body is over the limit of {BATCH_BYTES} bytes",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: f"the headers are over the limit of {HEADER_BYTES} bytes",
}


class ProblemTask(ErrorTask):  # type: ignore[misc]  # waitress ships no types
    """Answers a request that waitress itself refuses, in the same form as the application does."""

    def execute(self) -> None:
        """Write the problem document and close the connection."""
        error = self.request.error
        headers = getattr(self.request, "headers", {})
        source = origin.received(headers.get("X_REQUEST_ID"), headers.get("TRACEPARENT"))
        origin.begin(source)
        log.info("request refused", status=error.code, reason=error.body)
        body = problem.body(error.code, _OVER_LIMIT.get(error.code, f"this is not valid HTTP: {error.body}"))
        self.status = f"{error.code} {error.reason}"
        self.response_headers.extend(problem.headers(error.code))
        self.response_headers += [("X-Request-ID", source.request_id), ("X-Content-Type-Options", "nosniff")]
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

    task_class = LastTask
    error_task_class = ProblemTask

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


def create(application: Callable[..., Any], listening: socket.socket, *, threads: int) -> Any:
    """A waitress server on a bound socket.

    waitress' own defaults are a body of 1 GiB, headers of 256 KiB, 16 MiB unsent, 100 connections and 4 threads.
    """
    server = create_server(
        application,
        sockets=[listening],
        threads=threads,
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


def run(
    server: Any,
    stop: threading.Event,
    *,
    drain_s: float,
    stopping_too: Callable[[], object] = lambda: None,
    stalled_s: float = STALLED_S,
) -> None:
    """Serve until `stop` is set; then answer what was accepted, for at most `drain_s`, and return.

    `stopping_too` is called then. A client that takes nothing of its answer for `stalled_s` is cut.
    """
    while not stop.is_set():
        _turn(server)
        _cut_stalled(server, stalled_s)
    stopping_too()
    _stop_accepting(server)
    ends, quiet_since = time.monotonic() + drain_s, time.monotonic()
    while (now := time.monotonic()) < min(ends, quiet_since + QUIET_S):
        _turn(server)
        _cut_stalled(server, stalled_s)
        if any(channel.busy for channel in server.active_channels.values()):
            quiet_since = now
    server.task_dispatcher.shutdown(timeout=QUIET_S)
    wasyncore.close_all(server._map)


def _turn(server: Any) -> None:
    wasyncore.loop(timeout=TURN_S, use_poll=True, map=server._map, count=1)


def _cut_stalled(server: Any, stalled_s: float) -> None:
    """Waitress itself waits for such a client as long as it stays connected."""
    since = time.time() - stalled_s  # the clock of waitress' last_activity
    for channel in list(server.active_channels.values()):
        if channel.total_outbufs_len and channel.last_activity < since:
            log.warning("client cut, it takes nothing of its answer", unsent_bytes=channel.total_outbufs_len)
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
