"""Clocks of their own for logging nodes, by libfaketime: how far each is ahead stands in a file."""

from collections.abc import Callable
from pathlib import Path

from common.errors import FatalError
from scripts.launcher import Part

LIBRARIES = Path("/usr/lib")  # Debian's libfaketime is in a folder of the machine's kind there


def clocks(folder: Path) -> Callable[[Part], tuple[str, ...]]:
    """What the command of a part must begin with: that of a logging node has a clock, which `set_clock` sets.

    Raises:
        FatalError: libfaketime is missing.
    """
    library = next(LIBRARIES.glob("*/faketime/libfaketimeMT.so.1"), None)
    if library is None:
        raise FatalError(
            "the clocks of nodes are set with libfaketime, which is not here (apt-get install libfaketime)"
        )

    def within(part: Part) -> tuple[str, ...]:
        if not part.member:
            return ()
        set_clock(folder, part.name, 0)
        return (
            "env",
            f"LD_PRELOAD={library}",
            f"FAKETIME_TIMESTAMP_FILE={_file(folder, part.name)}",
            "FAKETIME_CACHE_DURATION=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
        )

    return within


def set_clock(folder: Path, name: str, ahead_s: int) -> None:
    """Let the clock of a logging node be so many seconds ahead, within a second."""
    _file(folder, name).write_text(f"{ahead_s:+d}\n")


def _file(folder: Path, name: str) -> Path:
    return folder / f"clock-{name}"
