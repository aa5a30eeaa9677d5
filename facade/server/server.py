"""waitress with our limits, our form of errors, and a stop that answers what was accepted."""

import socket
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
from waitress import wasyncore
from waitress.server import create_server

from common.config import Limits
from facade.server.connection import UNSENT_BYTES, Channel
from facade.server.load_shedding import MANY_CONNECTIONS, MANY_REQUESTS, QUICK
from facade.server.parser import DEFAULT
from facade.server.refusal import Refusal
from facade.server.scheduler import TURN_S, Event, Scheduler

log = structlog.get_logger()

BACKLOG = 2_048  # connections that the kernel has made and that are not taken yet
SPARE = 32  # connections beyond the limit, for what is quick
QUIET_S = 0.2  # without any request, then a draining server is done: a request on its way is still answered


class Dispatcher:
    """Begins requests as greenlets; quick paths begin at once, so that health checks are answered under any load.

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

    def add_task(self, channel: Any) -> None:
        """Begin the request of a connection, refuse it, or let it wait.

        Quick paths and errors begin at once, unless the client leaves its answers unread.
        """
        request = channel.requests[0]
        unread = channel.total_outbufs_len > UNSENT_BYTES // 2  # every quick answer is shorter
        if not unread and (request.error or request.path in QUICK):
            self._scheduler.spawn(channel.service)
        elif channel.spare or len(self.queue) >= self._queued:
            self.refused += 1
            if unread:  # the client would not read the refusal either
                channel.will_close = True
            elif channel.spare or not channel.refuse_at_once(MANY_REQUESTS):
                request.error = Refusal(503, MANY_CONNECTIONS if channel.spare else MANY_REQUESTS)
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
        clear_untrusted_proxy_headers=False,  # nobody here reads them
        log_socket_errors=False,  # a client that left is not our error
    )
    server.channel_class = partial(Channel, limits=limits)
    server.scheduler = scheduler
    server.pull_trigger = lambda: None  # it wakes the loop for other threads, and there are none
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
        if channel.stalled or channel.late or channel.will_close:  # waitress marks idle connections
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
