"""Worker processes that share one listening socket, because one Python process uses only one core."""

import errno
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import structlog

from common import hostport, process
from common.errors import FatalError
from facade.server.server import BACKLOG

log = structlog.get_logger()

RESTART_S = 1.0  # before a worker that ended is replaced, so that one that fails at start is not restarted in a loop

_STOPPING = (signal.SIGTERM, signal.SIGINT)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket that several processes can share; raises FatalError if the address cannot be bound."""
    try:
        return socket.create_server((host, port), family=hostport.family(host), backlog=BACKLOG)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise FatalError(
            f"cannot listen at {hostport.join(host, port)}: {'the port is taken' if taken else error.strerror}"
        ) from error


def run(count: int, work: Callable[[], None], *, on_stop: Callable[[], object] = lambda: None) -> None:
    """Run `work` in `count` processes until SIGTERM or SIGINT; replace workers that end before that.

    On the signal, call `on_stop`, send SIGTERM to the workers and wait until they have ended. If this process dies, the
    kernel ends the workers. Call this before any thread is started, because it forks.
    """
    workers: set[int] = set()
    stopping = threading.Event()

    def stop(*_: object) -> None:
        stopping.set()
        on_stop()
        for worker in tuple(workers):
            with suppress(ProcessLookupError):  # the worker has just ended
                os.kill(worker, signal.SIGTERM)

    for number in _STOPPING:
        signal.signal(number, stop)
    while workers or not stopping.is_set():
        while len(workers) < count and not stopping.is_set():
            with _signals_delayed():
                workers.add(_start(work))
        ended, status = os.wait()
        workers.discard(ended)
        if not stopping.is_set():
            log.error("a worker ended", pid=ended, status=os.waitstatus_to_exitcode(status))
            stopping.wait(RESTART_S)


@contextmanager
def _signals_delayed() -> Iterator[None]:
    """Delay signals until the end of the block, because a worker that is being forked would miss them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)


def _start(work: Callable[[], None]) -> int:
    """Fork a process that runs `work` and exits; returns its process id."""
    die = process.dying_with_this()
    if worker := os.fork():
        return worker
    code = 1
    try:
        if die:
            die()
        for number in _STOPPING:
            signal.signal(number, signal.SIG_DFL)  # until `work` sets its own handlers
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
        work()
        code = 0
    except Exception:
        log.exception("unexpected exception in a worker")
    finally:
        os._exit(code)  # skips the exit handlers inherited from the parent
