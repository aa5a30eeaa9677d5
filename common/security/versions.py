"""Minimum versions of libraries with known vulnerabilities; a process with an older version does not start."""

from collections.abc import Mapping
from importlib import metadata
from typing import NamedTuple

from common.errors import FatalError


class Floor(NamedTuple):
    """The first fixed version of a library, and the advisory against older ones."""

    version: tuple[int, ...]
    advisory: str


# The libraries that parse untrusted bytes, with the latest advisory against each, as of 2026-11.
FLOORS: Mapping[str, Floor] = {
    "httptools": Floor((0, 9, 0), "CVE-2024-27982 of its llhttp: requests hidden in others"),
    "libzmq": Floor((4, 3, 3), "CVE-2020-15166: a peer that does not finish its handshake blocks the server"),
    "msgpack": Floor((1, 2, 1), "CVE-2026-57585: an Unpacker that is used after an error crashes the process"),
    "waitress": Floor((3, 0, 1), "CVE-2024-49768 and CVE-2024-49769: requests hidden in others, and a busy loop"),
}


def refuse_known_bad(libzmq: str, floors: Mapping[str, Floor] = FLOORS) -> None:
    """Check that no library is older than its floor.

    Args:
        libzmq: the version of libzmq that is loaded; the other versions are read from the installed packages.
        floors: the first safe version by the name of the library.

    Raises:
        FatalError: a library is too old; the text names it, the advisory and the required version.
    """
    for name, floor in floors.items():
        found = libzmq if name == "libzmq" else metadata.version(name)
        if _numbers(found) < floor.version:
            needed = ".".join(map(str, floor.version))
            raise FatalError(f"{name} {found} is not safe ({floor.advisory}): install {needed} or newer")


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, such as (3, 0, 2) for "3.0.2.post1"."""
    numbers = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)
