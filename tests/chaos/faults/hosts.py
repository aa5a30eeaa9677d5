"""Simulated hosts on one machine: network namespaces on a bridge, whose network can be split, filtered and slowed."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from common.errors import FatalError
from scripts.launcher.processes import run_command

SLOW_BURST_BYTES = 1_600  # one packet
SLOW_QUEUE = "400ms"  # a packet that would wait longer is dropped
NETWORKS = 200  # how many networks 10.77.N.0/24 are used; N depends on the process id, so that runs do not collide


class Hosts:
    """`count` hosts while a `with` block runs; host N has the address 10.77.x.N, this machine 10.77.x.254.

    Raises:
        FatalError: this process is not root, or ip (iproute2) or nft (nftables) is missing.
    """

    def __init__(self, count: int) -> None:
        self._network = f"10.77.{os.getpid() % NETWORKS}"
        self._prefix = f"tf{os.getpid()}"
        self.numbers = range(1, count + 1)
        self._slowed: set[int] = set()

    def __enter__(self) -> Self:
        """Create the hosts."""
        if os.geteuid() != 0:
            raise FatalError("network namespaces need root")
        try:
            self._make()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        """Remove the hosts; their processes must have ended."""
        self._remove()

    def address(self, number: int) -> str:
        """The IP address of a host."""
        return f"{self._network}.{number}"

    def within(self, address: str) -> tuple[str, ...]:
        """The prefix that makes a command line run on the host with an IP address."""
        return ("ip", "netns", "exec", self._name(int(address.rpartition(".")[2])))

    def split(self, groups: Sequence[Collection[int]]) -> None:
        """Split the network: from now on only hosts of the same group reach each other."""
        for group in groups:
            others = [other for other in self.numbers if other not in group]
            for number in group:
                self._drop(number, others)

    def drop(self, source: int, target: int) -> None:
        """Drop all packets from `source` to `target`; the other direction stays open."""
        self._drop(target, [source])

    def close(self, number: int, port: int, *, sources: Sequence[int] | None = None) -> None:
        """Block a TCP port of a host for all hosts, or only for `sources`."""
        closed = f"tcp dport {port} drop"
        rules = [closed] if sources is None else [f"ip saddr {self.address(source)} {closed}" for source in sources]
        self._filter(number, rules)

    def slow(self, number: int, kbit_per_s: int) -> None:
        """Limit the rate at which a host sends."""
        self._slowed.add(number)
        limit = ("tbf", "rate", f"{kbit_per_s}kbit", "burst", str(SLOW_BURST_BYTES), "latency", SLOW_QUEUE)
        run_command(*self.within(self.address(number)), "tc", "qdisc", "replace", "dev", "eth0", "root", *limit)

    def heal(self) -> None:
        """Remove all filters and limits, so that every host reaches every other host."""
        for number in self.numbers:
            self._filter(number, [])
        while self._slowed:
            within = self.within(self.address(self._slowed.pop()))
            run_command(*within, "tc", "qdisc", "delete", "dev", "eth0", "root")

    def _drop(self, number: int, sources: Sequence[int]) -> None:
        self._filter(number, [f"ip saddr {self.address(source)} drop" for source in sources])

    def _filter(self, number: int, rules: Sequence[str]) -> None:
        lines = "".join(f"{rule}\n" for rule in rules)
        table = (
            "table inet split {}\ndelete table inet split\ntable inet split {\n"
            f"chain input {{ type filter hook input priority 0; policy accept;\n{lines}}}\n}}\n"
        )
        run_command(*self.within(self.address(number)), "nft", "-f", "-", text=table)

    def _make(self) -> None:
        run_command("ip", "link", "add", self._prefix, "type", "bridge")
        run_command("ip", "address", "add", f"{self._network}.254/24", "dev", self._prefix)
        run_command("ip", "link", "set", self._prefix, "up")
        for number in self.numbers:
            name, port = self._name(number), self._port(number)
            run_command("ip", "netns", "add", name)
            run_command("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
            run_command("ip", "link", "set", port, "master", self._prefix, "up")
            inside = ("ip", "-netns", name)
            run_command(*inside, "address", "add", f"{self.address(number)}/24", "dev", "eth0")
            run_command(*inside, "link", "set", "eth0", "up")
            run_command(*inside, "link", "set", "lo", "up")

    def _remove(self) -> None:
        for device in (
            *map(self._port, self.numbers),
            self._prefix,
        ):  # otherwise the kernel removes them only some time later
            if Path(f"/sys/class/net/{device}").exists():
                run_command("ip", "link", "delete", device)
        for number in self.numbers:
            if Path(f"/run/netns/{self._name(number)}").exists():
                run_command("ip", "netns", "delete", self._name(number))

    def _port(self, number: int) -> str:
        """The name of the device that connects a host to the bridge."""
        return f"{self._prefix}p{number}"

    def _name(self, number: int) -> str:
        return f"{self._prefix}-{number}"
