"""What every `__main__` does around its own work: logging, a clean stop, one sentence instead of a traceback."""

import asyncio
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import structlog

from common import logs, rpc, spans, versions
from common.errors import FatalError

log = structlog.get_logger()

P = ParamSpec("P")

DESCRIPTORS = 16_384  # 4,096 connections of a server, three for each that it asks through, 2,048 of clients, files

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


def entry(name: str, main: Callable[P, None]) -> Callable[P, None]:
    """Wrap a `main` so that logs go to standard error and a FatalError ends with its sentence and exit code 1."""

    @wraps(main)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        logs.configure(name)
        try:
            versions.refuse_known_bad(rpc.LIBZMQ)
            allow_descriptors()
            spans.record(name)
            main(*args, **kwargs)
        except FatalError as error:
            sys.exit(f"{name}: {error}")

    return run


def allow_descriptors() -> None:
    """Let this process open as many files and sockets as the system allows it to: shells begin with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < DESCRIPTORS:
        log.warning("few descriptors are allowed: connections may be refused", allowed=wanted, wanted=DESCRIPTORS)


def stop_on_signal() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set, for the running loop."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def exit_on_signal(name: str) -> None:
    """Let SIGTERM and SIGHUP end this process like an exception, so that what it started is ended, too."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(f"{name}: told to stop"))


def dying_with_this() -> Callable[[], None] | None:
    """Code for a child: ask Linux to kill it when this process dies, however that happens; None on other systems."""
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def in_child() -> None:  # pragma: no cover (runs between fork and exec)
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before prctl
            os._exit(1)

    return in_child
