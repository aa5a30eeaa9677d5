"""The HTTP server: waitress with our limits and error format, and a stop that answers all accepted requests."""

import socket
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

import structlog
from waitress import wasyncore
from waitress.server import create_server

from common.config import Limits
from common.errors import FatalError
from facade.server.connection import UNSENT_BYTES, Channel
from facade.server.load_shedding import EXEMPT_PATHS, TOO_MANY_CONNECTIONS, TOO_MANY_REQUESTS, Admission, decide
from facade.server.parser import DEFAULT
from facade.server.scheduler import TURN_S, Event, Scheduler
from facade.server.validation import Rejection

log = structlog.get_logger()

WAITRESS = "3.0."  # versions whose private parts `facade.server.connection` relies on
BACKLOG = 2_048  # connections that the kernel holds until they are accepted
SPARE = 32  # connections above the limit, only for health and status requests
QUIET_S = 0.2  # without any request before a draining server stops, so that a request in transit is answered


class Dispatcher:
    """Starts requests as greenlets, queues them, or refuses them. Has the interface of waitress' task dispatcher.

    Quick paths start at once, so that health checks are answered under any load.

    Args:
        scheduler: runs the requests.
        requests: limit on the requests that run at once.
        queued: limit on the requests that wait; further ones are refused at once.

    Attributes:
        refused: the number of requests that were refused because too many waited.
        queue: the connections whose requests wait.
    """

    def __init__(self, scheduler: Scheduler, requests: int, *, queued: int) -> None:
        self.refused = 0
        self.queue: deque[Any] = deque()
        self._scheduler = scheduler
        self._free = requests
        self._queued = queued

    def add_task(self, channel: Any) -> None:
        """Start the request of a connection, queue it, or refuse it.

        `load_shedding.decide` makes the decision.
        """
        request = channel.requests[0]
        admission = decide(
            exempt=bool(request.error) or request.path in EXEMPT_PATHS,
            unread=channel.total_outbufs_len > UNSENT_BYTES // 2,  # every quick response is shorter
            spare=channel.spare,
            free=self._free,
            waiting=len(self.queue),
            queued=self._queued,
        )
        match admission:
            case Admission.AT_ONCE:
                self._scheduler.spawn(channel.service)
            case Admission.RUN:
                self._free -= 1
                self._scheduler.spawn(self._serve, channel)
            case Admission.WAIT:
                self.queue.append(channel)
            case Admission.REFUSE:
                self.refused += 1
                self._refuse(channel)
            case Admission.CLOSE:
                self.refused += 1
                channel.will_close = True

    def _refuse(self, channel: Any) -> None:
        """Answer 503: without a task if that is possible now, so that a refusal costs little."""
        if channel.spare or not channel.refuse_at_once(TOO_MANY_REQUESTS):
            channel.requests[0].error = Rejection(503, TOO_MANY_CONNECTIONS if channel.spare else TOO_MANY_REQUESTS)
            self._scheduler.spawn(channel.service)

    def _serve(self, channel: Any) -> None:
        """Run a request, then start the next waiting one."""
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
    """A waitress server on a bound socket, which runs at most `requests` requests at once.

    The defaults of waitress, which are replaced here, are bodies of 1 GiB, headers of 256 KiB, 16 MiB of unsent output,
    100 connections and 4 threads.

    Raises:
        FatalError: waitress has a version whose private parts were not tested.
    """
    refuse_untested(version("waitress"))
    server = create_server(
        application,
        scheduler.polled,
        sockets=[listening],
        _dispatcher=Dispatcher(scheduler, requests, queued=limits.queued),
        ident=None,
        backlog=BACKLOG,
        connection_limit=limits.connections + SPARE,
        max_request_body_size=limits.batch_bytes,
        channel_request_lookahead=1,  # reading ahead notices a client that leaves during its request
        max_request_header_size=limits.header_bytes,
        outbuf_high_watermark=UNSENT_BYTES,
        clear_untrusted_proxy_headers=False,  # this application does not read them
        log_socket_errors=False,  # a client that leaves is not our error
    )
    server.channel_class = partial(Channel, limits=limits)
    server.scheduler = scheduler
    server.maintenance = lambda _now_s: None  # `_turn` closes idle connections
    server.pull_trigger = lambda: None  # it wakes the loop for other threads, of which there are none
    server.checked_s = 0.0
    server.connection_limit = limits.connections + SPARE
    return server


def refuse_untested(installed: str) -> None:
    """Raise FatalError unless waitress has a version whose connections may be subclassed as here."""
    if not installed.startswith(WAITRESS):
        raise FatalError(f"waitress {installed} is installed, and only {WAITRESS}x was tested: run `make install`")


def queued(server: Any) -> int:
    """The number of requests that wait."""
    return len(server.task_dispatcher.queue)


def refused(server: Any) -> int:
    """The number of requests that were refused because too many waited."""
    return int(server.task_dispatcher.refused)


def run(server: Any, stop: Event, *, drain_s: float, on_stop: Callable[[], object] = lambda: None) -> None:
    """Serve until `stop` is set; then call `on_stop`, and answer accepted requests for at most `drain_s` seconds."""
    while not stop.is_set():
        _turn(server)
    on_stop()
    _stop_accepting(server)
    ends_s, quiet_since_s = time.monotonic() + drain_s, time.monotonic()
    while (now_s := time.monotonic()) < min(ends_s, quiet_since_s + QUIET_S):
        _turn(server)
        if any(channel.busy for channel in server.active_channels.values()):
            quiet_since_s = now_s
    for channel in list(server.active_channels.values()):
        channel.handle_close()
    server.trigger.close()


def _turn(server: Any) -> None:
    """Run one turn of the loop, and close the connections of clients that are too slow, which waitress would keep."""
    before = len(server.active_channels)
    server.adj.connection_limit = server.connection_limit + len(server._map) - before
    server.scheduler.turn()
    if len(server.active_channels) > before:
        _accept_more(server)
    if (now_s := time.monotonic()) < server.checked_s + TURN_S:
        return
    server.checked_s = now_s
    for channel in list(server.active_channels.values()):
        if channel.stalled:
            log.warning(
                "connection closed, its client does not read the response", unsent_bytes=channel.total_outbufs_len
            )
        if channel.stalled or channel.idle or channel.will_close:
            channel.handle_close()
        elif channel.late:
            channel.time_out()


def _accept_more(server: Any) -> None:
    """Accept all waiting connections, up to the limit; waitress itself accepts one in each turn."""
    open_before = -1
    while open_before < (now_open := len(server.active_channels)) and server.readable():
        open_before = now_open
        server.handle_accept()


def _stop_accepting(server: Any) -> None:
    """Accept the connections that the kernel already holds, then close the listening socket."""
    _accept_more(server)
    server.accepting = False
    wasyncore.dispatcher.close(server)
