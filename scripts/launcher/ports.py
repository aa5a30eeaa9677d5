"""Free ports, and configurations for clusters that must not disturb each other."""

import errno
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from common.config import split

_FREE_PORTS = range(10_000, 32_000)  # below the ports that the kernel uses for outgoing connections


def free_addresses(count: int) -> list[str]:
    """Loopback addresses on which nothing listens at present."""
    found: list[str] = []
    port = _FREE_PORTS.start + time.time_ns() // 1_000 % len(_FREE_PORTS)
    while len(found) < count:
        port = port + 1 if port + 1 in _FREE_PORTS else _FREE_PORTS.start
        if not taken(address := f"127.0.0.1:{port}"):
            found.append(address)
    return found


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
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
        try:
            probe.bind(split(address))
        except OSError as error:
            return error.errno == errno.EADDRINUSE  # other errors are reported by the process itself
    return False
