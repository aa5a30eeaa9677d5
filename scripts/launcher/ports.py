"""Free ports, and a configuration of its own for a cluster that must not disturb another one."""

import errno
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from common.config import split

_FREE_PORTS = range(10_000, 32_000)  # below those that the kernel gives to outgoing connections


def free_addresses(count: int) -> list[str]:
    """Loopback addresses on which nothing listens now."""
    found: list[str] = []
    port = _FREE_PORTS.start + time.time_ns() // 1_000 % len(_FREE_PORTS)
    while len(found) < count:
        port = port + 1 if port + 1 in _FREE_PORTS else _FREE_PORTS.start
        if not taken(address := f"127.0.0.1:{port}"):
            found.append(address)
    return found


def write_config(path: Path, *, nodes: int = 3, registries: int = 1, more: str = "") -> None:
    """A config.toml with free ports for a cluster of its own, and `more` tables; data goes beside it."""
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
    """Whether something listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
        try:
            probe.bind(split(address))
        except OSError as error:
            return error.errno == errno.EADDRINUSE  # what else is wrong with it, its own process says better
    return False
