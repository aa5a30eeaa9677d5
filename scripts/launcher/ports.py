"""Free ports, and configurations for clusters that must not disturb each other."""

import errno
import fcntl
import itertools
import os
import re
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from common.errors import FatalError
from common.hostport import family, split

_FREE_PORTS = range(10_000, 32_000)  # below the ports that the kernel uses for outgoing connections
RESERVED_S = 60.0  # within which a process must listen at a port that it was given


def free_addresses(count: int, *, clock: Callable[[], float] = time.time) -> list[str]:
    """Loopback addresses on which nothing listens; no other process of this user gets them within RESERVED_S.

    `clock` returns seconds since 1970.

    Raises:
        FatalError: there are not so many.
    """
    first = int(1_000_000 * clock())
    with _reservations(clock()) as reserved:
        ports = (_FREE_PORTS[(first + number) % len(_FREE_PORTS)] for number in range(len(_FREE_PORTS)))
        free = (port for port in ports if port not in reserved and not taken(_loopback(port)))
        found = list(itertools.islice(free, count))
        reserved.update(dict.fromkeys(found, clock()))
    if len(found) < count:
        raise FatalError(f"only {len(found)} ports from {_FREE_PORTS.start} to {_FREE_PORTS.stop - 1} are free")
    return [_loopback(port) for port in found]


@contextmanager
def _reservations(now_s: float) -> Iterator[dict[int, float]]:
    """The ports that were given away, and when (seconds since 1970), under a lock of all processes of this user."""
    path = Path(tempfile.gettempdir()) / f"threefold-ports-{os.getuid()}"
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        given = re.findall(r"^(\d+) ([\d.]+)$", file.read(), re.MULTILINE)  # a kill may have cut the last line
        reserved = {int(port): float(at) for port, at in given if float(at) > now_s - RESERVED_S}
        yield reserved
        file.truncate(0)
        file.writelines(f"{port} {at}\n" for port, at in reserved.items())


def _loopback(port: int) -> str:
    return f"127.0.0.1:{port}"


def write_config(path: Path, *, nodes: int = 3, registries: int = 1, more: str = "") -> None:
    """Write a config.toml for a separate cluster on free ports, with `more` tables; its data goes beside it."""
    messages, facade, *others = free_addresses(2 + 3 * nodes + registries)
    path.write_text(
        f"[service_ips]\nmessages-service = {_toml([messages])}\nlogging-service = {_toml(others[:nodes])}\n"
        f'[hazelcast]\nhazelcast-cluster-name = "threefold-{path.parent.name}"\n'
        f"hazelcast-clients = {_toml(others[nodes : 2 * nodes])}\n"
        f"[metrics]\nlogging-service = {_toml(others[2 * nodes : 3 * nodes])}\n"
        f'[registry]\naddresses = {_toml(others[3 * nodes :])}\n[facade]\naddress = "{facade}"\n{more}'
    )


def _toml(addresses: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{address}"' for address in addresses) + "]"


def taken(address: str) -> bool:
    """True if another socket uses the address."""
    with socket.socket(family(split(address)[0])) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
        try:
            probe.bind(split(address))
        except OSError as error:
            return error.errno == errno.EADDRINUSE  # other errors are reported by the process itself
    return False
