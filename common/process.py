"""Start and stop of a process, for every `__main__`: logging, signals, and one sentence instead of a traceback."""

import asyncio
import contextlib
import ctypes
import errno
import gc
import io
import os
import re
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TextIO

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

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # C0 without tab and line feed, DEL, and C1
_OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
PRIVATE_UMASK, SHARED_UMASK = 0o077, 0o022
_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
# Thresholds of the cyclic garbage collector. Python's defaults (700, 10, 10) make it scan the thousands of short-lived
# objects of a batch repeatedly, which took 2 to 8 % of the CPU time of a batch of 100 messages
# (docs/history/measurements-2026-11.md).
_GC_THRESHOLDS = (20_000, 20, 50)


def entry(name: str, main: Callable[P, None], *, serves: bool = False, umask: int = PRIVATE_UMASK) -> Callable[P, None]:
    """Wrap a `main`: configure logs and traces, and on a FatalError print its sentence and exit with code 1.

    Args:
        name: of the program; the sentence starts with it.
        main: the program.
        serves: the program is a server, which ignores SIGHUP: it outlives the terminal in which it was started.
        umask: the permissions that files and folders do not get; by default only their owner may read them.
    """

    @wraps(main)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        os.umask(umask)
        _open_standard_streams()
        if serves:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        logs.configure(name)
        gc.set_threshold(*_GC_THRESHOLDS)
        try:
            versions.refuse_known_bad(LIBZMQ)
            descriptors.allow()
            tracing.configure(name)
            main(*args, **kwargs)
        except FatalError as error:
            sys.exit(f"{name}: {printable(str(error), sys.stderr)}")
        except OSError as error:
            if error.errno not in _OUTPUT_ERRORS or error.filename is not None:
                raise
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python fails once more when it flushes at exit
            sys.exit(f"{name}: the output cannot be written: {error.strerror}")

    return run


def printable(text: str, stream: TextIO) -> str:
    """A text as a stream may show it: on a terminal, control characters are escaped, because they are its commands.

    Line ends and tabs are kept. In a pipe or a file the text is not changed.
    """
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text) if stream.isatty() else text


def _open_standard_streams() -> None:
    """Open what the caller has closed of stdin, stdout and stderr: else a later file or socket would get its number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # UTF-8 in every locale
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def keyring_of(settings: Config, folder: Path, own: str) -> Keyring | None:
    """The keyring of the process at `own` (host:port, or OPERATOR); None if `[security] keys` is not set.

    Args:
        settings: the configuration.
        folder: the folder of config.toml.
        own: the name of the keys of this process.

    Raises:
        ConfigError: as Keyring, or the public and the secret key do not belong together.
    """
    if not settings.security.keys:
        return None
    ring = Keyring(folder / settings.security.keys, own)
    if curve.public_half(ring.secret) != ring.public:
        raise ConfigError(
            f"{own}{PUBLIC} and {own}{SECRET} in {folder / settings.security.keys} do not belong together: "
            "copy both from where they were made, or `python -m scripts.keys make --replace` them"
        )
    return ring


def stop_on_signal() -> asyncio.Event:
    """An event of the running loop that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def exit_on_signal(name: str) -> None:
    """Make SIGTERM and SIGHUP raise SystemExit, so that `finally` blocks stop the processes that this one started."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(f"{name}: stopped by a signal"))


def dying_with_this() -> Callable[[], None] | None:
    """A `preexec_fn` that has Linux kill the child whenever this process dies; None on other systems."""
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def in_child() -> None:  # pragma: no cover (runs between fork and exec)
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent died before prctl
            os._exit(1)

    return in_child
