"""waitress with our limits, our form of errors, and a stop that answers what was accepted."""

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

import structlog
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import create_server
from waitress.task import ErrorTask, WSGITask

from common import origin
from common.config import Limits
from facade import problem, refusal, strictness
from facade.parser import DEFAULT, Parser
from facade.refusal import MANY_CONNECTIONS, MANY_REQUESTS, QUICK, Refusal
from facade.scheduler import TURN_S, Event, Scheduler

log = structlog.get_logger()

BACKLOG = 2_048  # connections that the kernel has made and that are not taken yet
UNSENT_BYTES = 1_048_576  # of one answer that its client does not read; then reading the log waits, too
SPARE = 32  # connections beyond the limit, for what is quick ...
SPARE_S = 1.0  # ... and for so long each, so that there is soon another one
QUIET_S = 0.2  # without any request, then a draining server is done: a request on its way is still answered


class Dispatcher:
    """Begins requests, as greenlets; what is quick begins at once, so that health is told under any load.

    Args:
        scheduler: runs them.
        requests: at once.
        queued: requests that may wait for their turn; one more is refused at once.

    Attributes:
        refused: requests that were refused because too many waited.
        queue: those that wait.
    """

    def __init__(self, scheduler: Scheduler, requests: int, *, queued: int) -> None:
        self.refused = 0
        self.queue: deque[Any] = deque()
        self._scheduler = scheduler
        self._free = requests
        self._queued = queued

    @property
    def full(self) -> bool:
        """Whether as many requests wait as may."""
        return len(self.queue) >= self._queued

    def add_task(self, channel: Any) -> None:
        """A connection has a request; one whose client does not read would hold a place of those for what is quick."""
        request = channel.requests[0]
        unread = channel.total_outbufs_len > UNSENT_BYTES // 2  # and less than that is every answer that is quick
        quick = request.error or request.path in QUICK
        if (unread or not quick) and (channel.spare or self.full):
            self.refused += 1
            if unread:  # it would not even read that
                channel.will_close = True
                return
            request.error = Refusal(503, MANY_CONNECTIONS if channel.spare else MANY_REQUESTS)
            quick = True
        if quick and not unread:
            self._scheduler.spawn(channel.service)
        elif self._free:
            self._free -= 1
            self._scheduler.spawn(self._serve, channel)
        else:
            self.queue.append(channel)

    def _serve(self, channel: Any) -> None:
        try:
            channel.service()
        finally:
            if self.queue:
                self._scheduler.spawn(self._serve, self.queue.popleft())
            else:
                self._free += 1


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

    def write(self, data: bytes) -> None:
        """Send the headers and the first part of the body together."""
        self.channel.held = not self.wrote_header
        super().write(data)
        self.channel.release()

    def start(self) -> None:
        """Begin the answer."""
        super().start()
        if self.channel.spare or not self.channel.server.accepting:
            self.request.headers.pop("CONNECTION", None)
            self.set_close_on_finish()


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection of a client; `spare` is one beyond the limit."""

    tells = True  # when it wants to write, or no more to read: see facade.polling
    task_class = LastTask
    error_task_class = ProblemTask

    def __init__(self, *args: Any, limits: Limits, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limits = limits
        self.parser_class = partial(Parser, url_bytes=limits.url_bytes)
        self.spare = len(self.server.active_channels) > limits.connections
        self.began_s = time.monotonic()  # when the first byte of the request came that is being read
        self.held = False  # what is written waits, for more to be sent with it
        self._room: asyncio.Future[None] | None = None  # for a writer whose client does not read as fast

    def received(self, data: bytes) -> bool:
        """Take more of the requests of this connection."""
        if self.server.task_dispatcher.full and self._refused_at_once(data):
            return True
        before = self.request
        taken = super().received(data)
        if self.request is not before:
            self.began_s = time.monotonic()
        return bool(taken)

    def _refused_at_once(self, data: bytes) -> bool:
        """Whether these bytes were a whole request, and are answered now: nothing is before it on this connection."""
        if self.busy or self.close_when_flushed or not self.server.accepting or not refusal.is_whole(data, QUICK):
            return False
        self.server.task_dispatcher.refused += 1
        told = refusal.answer(data, MANY_REQUESTS)
        if self.send(told) != len(told):  # its client does not even read that
            self.will_close = True
        return True

    def release(self) -> None:
        """Send what was held."""
        if self.held:
            self.held = False
            self._flush_exception(self._flush_some, do_close=False)

    def handle_write(self) -> None:
        """The client takes more: so its writer may go on."""
        super().handle_write()
        self._tell_room()

    def handle_close(self) -> None:
        """Nobody is there any more, which its writer must hear of."""
        super().handle_close()
        self._tell_room()

    def service(self) -> None:
        """Answer a request."""
        super().service()
        self._map.changed(self._fileno)

    def _flush_some(self, do_close: bool = True) -> bool:
        if self.held:
            return False
        self._map.changed(self._fileno)
        return bool(super()._flush_some(do_close))

    def _flush_outbufs_below_high_watermark(self) -> None:
        """Let the others run until the client has taken enough; waitress would hold the loop."""
        while self.connected and self.total_outbufs_len > UNSENT_BYTES:
            self.release()
            self._room = self.server.scheduler.create_future()
            self.server.scheduler.wait(self._room)

    def _tell_room(self) -> None:
        enough = not self.connected or self.total_outbufs_len <= UNSENT_BYTES
        if enough and self._room and not self._room.done():
            self._room.set_result(None)

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


def create(
    scheduler: Scheduler,
    application: Callable[..., Any],
    listening: socket.socket,
    *,
    requests: int,
    limits: Limits = DEFAULT,
) -> Any:
    """A waitress server on a bound socket, in whose loop so many `requests` run at once.

    waitress' own defaults are a body of 1 GiB, headers of 256 KiB, 16 MiB unsent, 100 connections and 4 threads.
    """
    server = create_server(
        application,
        scheduler.polled,
        sockets=[listening],
        _dispatcher=Dispatcher(scheduler, requests, queued=limits.queued),
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
    server.scheduler = scheduler
    server.pull_trigger = lambda: None  # nobody works beside the loop, which would have to be woken
    server.looked_s = 0.0
    server.most = limits.connections + SPARE
    return server


def queued(server: Any) -> int:
    """Requests that wait for their turn."""
    return len(server.task_dispatcher.queue)


def refused(server: Any) -> int:
    """Requests that were refused because too many waited."""
    return int(server.task_dispatcher.refused)


def run(server: Any, stop: Event, *, drain_s: float, stopping_too: Callable[[], object] = lambda: None) -> None:
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
    for channel in list(server.active_channels.values()):
        channel.handle_close()
    server.trigger.close()


def _turn(server: Any) -> None:
    """Read and write what can be, then cut who takes too long: waitress itself would wait."""
    before = len(server.active_channels)
    server.adj.connection_limit = server.most + len(server._map) - before  # waitress counts all that is in the loop
    server.scheduler.turn()
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
