"""Gives logging nodes clocks of their own, with libfaketime: a file per node holds its offset."""

from collections.abc import Callable
from pathlib import Path

from common.errors import FatalError
from scripts.launcher import Part

LIBRARIES = Path("/usr/lib")  # Debian's libfaketime is in a folder of the machine's kind there


def clock_prefix(folder: Path) -> Callable[[Part], tuple[str, ...]]:
    """Make the command prefix of each part; that of a logging node reads its clock's offset from a file in `folder`.

    Raises:
        FatalError: libfaketime is missing.
    """
    library = next(LIBRARIES.glob("*/faketime/libfaketimeMT.so.1"), None)
    if library is None:
        raise FatalError("the clocks of nodes are set with libfaketime, which is not here (apt-get install faketime)")

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
    """Set the clock of a logging node `ahead_s` seconds ahead (negative: behind); it applies within a second."""
    _file(folder, name).write_text(f"{ahead_s:+d}\n")


def _file(folder: Path, name: str) -> Path:
    return folder / f"clock-{name}"
