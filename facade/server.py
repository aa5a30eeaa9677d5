"""waitress with our limits, our form of errors, and a stop that answers what was accepted."""

import logging
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

import structlog
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import create_server
from waitress.task import ErrorTask, ThreadedTaskDispatcher, WSGITask

from common import origin
from common.config import Limits
from facade import problem, refusal, strictness
from facade.parser import DEFAULT, Parser
from facade.refusal import MANY_CONNECTIONS, MANY_REQUESTS, PROMPT, QUICK, Refusal

log = structlog.get_logger()

BACKLOG = 2_048  # connections that the kernel has made and that are not taken yet
UNSENT_BYTES = 1_048_576  # of one answer that its client does not read; then reading the log waits, too
PROMPT_THREADS, ASKING_THREADS, ERROR_THREADS = 1, 3, 1  # for what is answered under any load
TURN_S = 0.1  # for one turn of the loop, so that a stop is noticed within it
SPARE = 32  # connections beyond the limit, for what is quick ...
SPARE_S = 1.0  # ... and for so long each, so that there is soon another one
QUIET_S = 0.2  # without any request, then a draining server is done: a request on its way is still answered


class Dispatcher(ThreadedTaskDispatcher):  # type: ignore[misc]
    """Gives requests to threads; what is quick has some of its own, so that health is told under any load.

    Args:
        threads: for requests.
        queued: requests that may wait for one of these; one more is refused at once.
    """

    def __init__(self, threads: int, *, queued: int) -> None:
        super().__init__()
        self.refused = 0
        self._queued = queued
        self._begin = threading.Event()
        self._begin.set()
        self._prompt, self._asking, self._errors = (ThreadedTaskDispatcher() for _ in range(3))
        self._prompt.set_thread_count(PROMPT_THREADS)
        self._asking.set_thread_count(ASKING_THREADS)
        self._errors.set_thread_count(ERROR_THREADS)
        self.set_thread_count(threads)

    @property
    def full(self) -> bool:
        """Whether as many requests wait as may."""
        return len(self.queue) >= self._queued

    def loop_first(self) -> None:
        """Until `loop_ended`, no thread begins a request.

        While the loop refuses many, each of its reads and sends gives Python's lock away, and 48 threads would take it:
        half of the refusals at five times the peak took 160 ms, and take 65 so (docs/measurements.md).
        """
        self._begin.clear()

    def loop_ended(self) -> None:
        """The loop has done what there was to do."""
        if not self._begin.is_set():
            self._begin.set()

    def wait_for_loop(self) -> None:
        """For a thread that is about to begin a request."""
        if not self._begin.is_set():
            self._begin.wait(TURN_S)

    def add_task(self, channel: Any) -> None:
        """A connection has a request; one whose client does not read would hold a thread of those for what is quick."""
        request = channel.requests[0]
        unread = channel.total_outbufs_len > UNSENT_BYTES // 2  # and less than that is every answer that is quick
        if not request.error and (unread or request.path not in QUICK) and (channel.spare or self.full):
            self.refused += 1
            request.error = Refusal(503, MANY_CONNECTIONS if channel.spare else MANY_REQUESTS)
            if unread:  # not even that would be read
                channel.will_close = True
                return
        if unread or not (request.error or request.path in QUICK):
            super().add_task(channel)
        elif request.error:
            self._errors.add_task(channel)
        elif request.path in PROMPT:
            self._prompt.add_task(channel)
        else:
            self._asking.add_task(channel)

    def shutdown(self, cancel_pending: bool = True, timeout: float = 5) -> bool:
        """End all threads."""
        for quick in (self._prompt, self._asking, self._errors):
            quick.shutdown(cancel_pending, timeout)
        return bool(super().shutdown(cancel_pending, timeout))


class ProblemTask(ErrorTask):  # type: ignore[misc]  # waitress ships no types
    """Answers a request that waitress itself refuses, in the same form as the application does."""

    def execute(self) -> None:
        """Write the problem document and close the connection."""
        error = self.request.error
        headers = getattr(self.request, "headers", {})
        headers.pop("CONNECTION", None)  # waitress would tell a client of HTTP/1.0 that it is kept, too
        source = origin.received(headers.get("X_REQUEST_ID"), headers.get("TRACEPARENT"))
        origin.begin(source)
        if error.code != HTTPStatus.SERVICE_UNAVAILABLE:  # that would be a flood
            log.info("request refused", status=error.code, reason=error.body)
        body = problem.body(error.code, strictness.reason(error.code, str(error.body), self.channel.limits))
        self.status = f"{error.code} {error.reason}"
        self.response_headers.extend(problem.headers(error.code))
        self.response_headers += [("X-Request-ID", source.request_id), *problem.SECURITY]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(b"" if self.request.command == "HEAD" else body)


class LastTask(WSGITask):  # type: ignore[misc]
    """Answers a request; while the server drains, and beyond the limit of connections, this one is closed after it."""

    def start(self) -> None:
        """Begin the answer."""
        super().start()
        if self.channel.spare or not self.channel.server.accepting:
            self.request.headers.pop("CONNECTION", None)
            self.set_close_on_finish()


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection of a client; `spare` is one beyond the limit."""

    task_class = LastTask
    error_task_class = ProblemTask

    def __init__(self, *args: Any, limits: Limits, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limits = limits
        self.parser_class = partial(Parser, url_bytes=limits.url_bytes)
        self.spare = len(self.server.active_channels) > limits.connections
        self.began_s = time.monotonic()  # when the first byte of the request came that is being read

    def received(self, data: bytes) -> bool:
        """Take more of the requests of this connection."""
        if self.server.task_dispatcher.full and self._refused_at_once(data):
            return True
        before = self.request
        taken = super().received(data)
        if self.request is not before:
            self.began_s = time.monotonic()
        return bool(taken)

    def service(self) -> None:
        """Answer a request; what is not quick begins when the loop has ended its turn."""
        request = self.requests[0]
        if not request.error and request.path not in QUICK:
            self.server.task_dispatcher.wait_for_loop()
        super().service()

    def _refused_at_once(self, data: bytes) -> bool:
        """Whether these bytes were a whole request, and are answered now: nothing is before it on this connection."""
        if self.busy or self.close_when_flushed or not self.server.accepting or not refusal.is_whole(data, QUICK):
            return False
        self.server.task_dispatcher.refused += 1
        self.server.task_dispatcher.loop_first()
        told = refusal.answer(data, MANY_REQUESTS)
        if self.send(told) != len(told):  # its client does not even read that
            self.will_close = True
        return True

    @property
    def late(self) -> bool:
        """Whether a request takes too long to come, also the first; the time of an answer before it is not counted."""
        if self.requests or not (self.request or self.spare or self.last_activity == self.creation_time):
            return False
        return bool(time.monotonic() - self.began_s > (SPARE_S if self.spare else self.limits.receive_s))

    @property
    def stalled(self) -> bool:
        """Whether its client has taken nothing of an answer for too long."""
        since = time.time() - self.limits.stalled_s  # the clock of waitress' last_activity
        return bool(self.total_outbufs_len and self.last_activity < since)

    @property
    def busy(self) -> bool:
        """Whether something is still to be read, worked on or sent."""
        return bool(self.requests or self.request or self.total_outbufs_len)


def create(application: Callable[..., Any], listening: socket.socket, *, threads: int, limits: Limits = DEFAULT) -> Any:
    """A waitress server on a bound socket.

    waitress' own defaults are a body of 1 GiB, headers of 256 KiB, 16 MiB unsent, 100 connections and 4 threads.
    """
    server = create_server(
        application,
        sockets=[listening],
        _dispatcher=Dispatcher(threads, queued=limits.queued),
        ident=None,
        backlog=BACKLOG,
        connection_limit=limits.connections + SPARE,
        max_request_body_size=limits.batch_bytes,
        channel_request_lookahead=1,  # so that a client that left is noticed while it is answered
        max_request_header_size=limits.header_bytes,
        outbuf_high_watermark=UNSENT_BYTES,
        log_socket_errors=False,  # a client that left is not our error
    )
    server.channel_class = partial(Channel, limits=limits)
    server.looked_s = 0.0
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # it warns whenever a request waits for a thread
    return server


def queued(server: Any) -> int:
    """Requests that wait for a thread."""
    return len(server.task_dispatcher.queue)


def refused(server: Any) -> int:
    """Requests that were refused because too many waited."""
    return int(server.task_dispatcher.refused)


def run(
    server: Any, stop: threading.Event, *, drain_s: float, stopping_too: Callable[[], object] = lambda: None
) -> None:
    """Serve until `stop` is set; then answer what was accepted, for at most `drain_s`, and return.

    `stopping_too` is called then. A client that takes nothing of its answer for too long is cut, and one whose request
    takes too long to come.
    """
    while not stop.is_set():
        _turn(server)
    stopping_too()
    _stop_accepting(server)
    ends, quiet_since = time.monotonic() + drain_s, time.monotonic()
    while (now := time.monotonic()) < min(ends, quiet_since + QUIET_S):
        _turn(server)
        if any(channel.busy for channel in server.active_channels.values()):
            quiet_since = now
    server.task_dispatcher.shutdown(timeout=QUIET_S)
    wasyncore.close_all(server._map)


def _turn(server: Any) -> None:
    """Read and write what can be, then cut who takes too long: waitress itself would wait."""
    before = len(server.active_channels)
    wasyncore.loop(timeout=TURN_S, use_poll=True, map=server._map, count=1)
    server.task_dispatcher.loop_ended()
    if len(server.active_channels) > before:
        _accept_more(server)
    if (now_s := time.monotonic()) < server.looked_s + TURN_S:
        return
    server.looked_s = now_s
    for channel in list(server.active_channels.values()):
        if channel.stalled:
            log.warning("client cut, it takes nothing of its answer", unsent_bytes=channel.total_outbufs_len)
        if channel.stalled or channel.late:
            channel.handle_close()


def _accept_more(server: Any) -> None:
    """Take all new connections that wait, as far as the limit allows: waitress takes one in each turn."""
    open_before = -1
    while open_before < (now_open := len(server.active_channels)) and server.readable():
        open_before = now_open
        server.handle_accept()


def _stop_accepting(server: Any) -> None:
    """Take the connections that the kernel has made already, then refuse new ones."""
    _accept_more(server)
    server.accepting = False
    wasyncore.dispatcher.close(server)
