"""What every `__main__` does around its own work: logging, a clean stop, one sentence instead of a traceback."""

import asyncio
import ctypes
import gc
import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec

import structlog

from common import descriptors
from common.config import Config
from common.errors import ConfigError, FatalError
from common.rpc.zmq import curve
from common.rpc.zmq.sockets import LIBZMQ
from common.security import versions
from common.security.keyring import PUBLIC, SECRET, Keyring
from common.telemetry import logs, tracing

log = structlog.get_logger()

P = ParamSpec("P")

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
# Thresholds of the cyclic garbage collector. With Python's own (700, 10, 10) it scanned the thousands of short-lived
# objects of a batch again and again: 2 to 8 % of the CPU time of a batch of 100 messages (docs/measurements.md).
_GC_THRESHOLDS = (20_000, 20, 50)


def entry(name: str, main: Callable[P, None]) -> Callable[P, None]:
    """Wrap a `main` so that logs go to standard error and a FatalError ends with its sentence and exit code 1."""

    @wraps(main)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        logs.configure(name)
        gc.set_threshold(*_GC_THRESHOLDS)
        try:
            versions.refuse_known_bad(LIBZMQ)
            descriptors.allow()
            tracing.configure(name)
            main(*args, **kwargs)
        except FatalError as error:
            sys.exit(f"{name}: {error}")

    return run


def keyring_of(settings: Config, folder: Path, own: str) -> Keyring | None:
    """The keyring of the process at `own` (host:port, or OPERATOR), if the configuration in `folder` has keys.

    Raises:
        ConfigError: as Keyring, or its two keys are no pair.
    """
    if not settings.security.keys:
        return None
    ring = Keyring(folder / settings.security.keys, own)
    if curve.public_half(ring.secret) != ring.public:
        raise ConfigError(
            f"{own}{PUBLIC} and {own}{SECRET} in {folder / settings.security.keys} are no pair: copy both from where "
            "they were made, or `python -m scripts.keys make --replace` them"
        )
    return ring


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
