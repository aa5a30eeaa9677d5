"""The processes of a cluster, and their state."""

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
        arguments: the command line after `python -m`.
        member: host:port of the Hazelcast member that it starts, or None.
    """

    name: str
    address: str
    arguments: tuple[str, ...]
    member: str | None = None


@dataclass(frozen=True, slots=True)
class PartStatus:
    """The state of a part: its process id (None if it is down), and its reply to a ping ("" if there is none)."""

    part: Part
    pid: int | None
    state: str
    members: int

    @property
    def ready(self) -> bool:
        """Whether the part can serve."""
        return self.state == State.READY
