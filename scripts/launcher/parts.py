"""The processes that make up a cluster."""

from collections.abc import Callable
from dataclasses import dataclass

from common.protocol.messages import State

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the cluster.

    Attributes:
        name: "registry-1", "messages-1", "logging-1" …, "facade".
        address: host:port at which it listens.
        arguments: what comes after `python -m`.
        member: host:port of the Hazelcast member that it starts, or None.
    """

    name: str
    address: str
    arguments: tuple[str, ...]
    member: str | None = None


@dataclass(frozen=True, slots=True)
class PartStatus:
    """How a part is now: its process, when it runs, and what it answers to a ping ("" for nothing)."""

    part: Part
    pid: int | None
    state: str
    members: int

    @property
    def ready(self) -> bool:
        """Whether it can serve."""
        return self.state == State.READY
