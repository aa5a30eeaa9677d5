"""Several processes that serve at one address: one of Python uses one core."""

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

RESTART_S = 1.0  # between two starts in the place of workers that ended, so that one that cannot run is not a loop

_STOPPING = (signal.SIGTERM, signal.SIGINT)


def listen(host: str, port: int) -> socket.socket:
    """A bound socket, which several servers may share; raises FatalError when it cannot be bound."""
    try:
        return socket.create_server((host, port), backlog=BACKLOG)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise FatalError(
            f"cannot listen at {host}:{port}: {'the port is taken' if taken else error.strerror}"
        ) from error


def run(count: int, work: Callable[[], None], *, stopping_too: Callable[[], object] = lambda: None) -> None:
    """Run `work` in so many processes until this one is told to stop; one that ends by itself is started again.

    They stop when this process is told to (SIGTERM, SIGINT), which then waits for them, and die with it. Call it before
    threads are started. `stopping_too` is called when it is told to.
    """
    workers: set[int] = set()
    stopping = threading.Event()

    def stop(*_: object) -> None:
        stopping.set()
        stopping_too()
        for worker in tuple(workers):
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(worker, signal.SIGTERM)

    for number in _STOPPING:
        signal.signal(number, stop)
    while workers or not stopping.is_set():
        while len(workers) < count and not stopping.is_set():
            with _held_back():
                workers.add(_start(work))
        ended, status = os.wait()
        workers.discard(ended)
        if not stopping.is_set():
            log.error("a worker ended", pid=ended, status=os.waitstatus_to_exitcode(status))
            stopping.wait(RESTART_S)


@contextmanager
def _held_back() -> Iterator[None]:
    """Nobody is told to stop in this block, but after it: else a worker that is being made might not hear of it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)


def _start(work: Callable[[], None]) -> int:
    """The id of a new process that does the work and exits."""
    die = process.dying_with_this()
    if worker := os.fork():
        return worker
    code = 1
    try:
        if die:
            die()
        for number in _STOPPING:
            signal.signal(number, signal.SIG_DFL)  # until the work says otherwise
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
        work()
        code = 0
    except Exception:
        log.exception("a worker broke")
    finally:
        os._exit(code)  # nothing of the parent's is finished here
