"""Hosts of their own on one machine: network namespaces on a bridge, and a network that can be split between them."""

import os
import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from common.errors import FatalError

COMMAND_S = 10.0  # for one command of ip or nft
NETWORKS = 200  # of 10.77.N.0/24: one for each process that makes hosts


class Hosts:
    """So many hosts from `with` to the end of the block; host N has the address 10.77.x.N, this machine 10.77.x.254.

    Raises:
        FatalError: it needs root, and the commands ip (iproute2) and nft (nftables).
    """

    def __init__(self, count: int) -> None:
        self._network = f"10.77.{os.getpid() % NETWORKS}"
        self._prefix = f"tf{os.getpid()}"
        self.numbers = range(1, count + 1)

    def __enter__(self) -> Self:
        """Make them."""
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
        """Remove them; their processes must have ended."""
        self._remove()

    def address(self, number: int) -> str:
        """The IP address of a host."""
        return f"{self._network}.{number}"

    def within(self, address: str) -> tuple[str, ...]:
        """What a command line must begin with to run on the host of that IP address."""
        return ("ip", "netns", "exec", self._name(int(address.rpartition(".")[2])))

    def split(self, groups: Sequence[Collection[int]]) -> None:
        """From now on only hosts of one group reach each other."""
        for group in groups:
            others = [other for other in self.numbers if other not in group]
            for number in group:
                self._drop(number, others)

    def drop(self, source: int, target: int) -> None:
        """From now on `target` gets nothing from `source`; the other way is open."""
        self._drop(target, [source])

    def heal(self) -> None:
        """Everyone reaches everyone again."""
        for number in self.numbers:
            self._drop(number, [])

    def _drop(self, number: int, sources: Sequence[int]) -> None:
        rules = "".join(f"ip saddr {self.address(source)} drop\n" for source in sources)
        table = (
            "table inet split {}\ndelete table inet split\ntable inet split {\n"
            f"chain input {{ type filter hook input priority 0; policy accept;\n{rules}}}\n}}\n"
        )
        _run(*self.within(self.address(number)), "nft", "-f", "-", text=table)

    def _make(self) -> None:
        _run("ip", "link", "add", self._prefix, "type", "bridge")
        _run("ip", "address", "add", f"{self._network}.254/24", "dev", self._prefix)
        _run("ip", "link", "set", self._prefix, "up")
        for number in self.numbers:
            name, port = self._name(number), f"{self._prefix}p{number}"
            _run("ip", "netns", "add", name)
            _run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
            _run("ip", "link", "set", port, "master", self._prefix, "up")
            inside = ("ip", "-netns", name)
            _run(*inside, "address", "add", f"{self.address(number)}/24", "dev", "eth0")
            _run(*inside, "link", "set", "eth0", "up")
            _run(*inside, "link", "set", "lo", "up")

    def _remove(self) -> None:
        for number in self.numbers:
            if Path(f"/run/netns/{self._name(number)}").exists():
                _run("ip", "netns", "delete", self._name(number))
        if Path(f"/sys/class/net/{self._prefix}").exists():
            _run("ip", "link", "delete", self._prefix)

    def _name(self, number: int) -> str:
        return f"{self._prefix}-{number}"


def _run(*command: str, text: str = "") -> None:
    try:
        subprocess.run(command, input=text, capture_output=True, text=True, check=True, timeout=COMMAND_S)
    except FileNotFoundError as error:
        raise FatalError(f"{command[0]} is not installed: hosts need iproute2 and nftables") from error
    except subprocess.CalledProcessError as error:
        raise FatalError(f"{' '.join(command)}: {error.stderr.strip()}") from error
