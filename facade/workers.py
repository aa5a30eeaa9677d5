"""Worker processes that share one address: one Python process uses one core."""

import errno
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import structlog

from common import process
from common.errors import FatalError
from facade.server.server import BACKLOG

log = structlog.get_logger()

RESTART_S = 1.0  # before a worker that ended is replaced, so that one that cannot run is not restarted in a busy loop

_STOPPING = (signal.SIGTERM, signal.SIGINT)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket that several processes may share; raises FatalError if the address cannot be bound."""
    try:
        return socket.create_server((host, port), backlog=BACKLOG)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise FatalError(
            f"cannot listen at {host}:{port}: {'the port is taken' if taken else error.strerror}"
        ) from error


def run(count: int, work: Callable[[], None], *, on_stop: Callable[[], object] = lambda: None) -> None:
    """Run `work` in `count` processes until this process gets SIGTERM or SIGINT; replace workers that end before.

    On the signal `on_stop` is called, the workers get SIGTERM, and this process waits for them. If it dies, they die
    with it. Must be called before threads are started.
    """
    workers: set[int] = set()
    stopping = threading.Event()

    def stop(*_: object) -> None:
        stopping.set()
        on_stop()
        for worker in tuple(workers):
            with suppress(ProcessLookupError):  # it has just ended
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
    """Delay signals to the end of the block: a worker that is just being started would miss them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)


def _start(work: Callable[[], None]) -> int:
    """Start a process that does the work and exits; returns its id."""
    die = process.dying_with_this()
    if worker := os.fork():
        return worker
    code = 1
    try:
        if die:
            die()
        for number in _STOPPING:
            signal.signal(number, signal.SIG_DFL)  # until the work sets its own
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
        work()
        code = 0
    except Exception:
        log.exception("unexpected exception in a worker")
    finally:
        os._exit(code)  # without the exit handlers of the parent
