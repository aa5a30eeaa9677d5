"""The messages with which an operator inspects a server; `common.protocol.messages` has the others."""

from functools import cache
from typing import Annotated, Any, NamedTuple

import psutil
from msgspec import Meta

from common import VERSION
from common.protocol.messages import Name, Reason, State, WireMessage

Count = Annotated[int, Meta(ge=0)]
Since = Annotated[int, Meta(ge=0)]  # milliseconds since 1970, 0 for never


class Inspect(WireMessage, frozen=True, kw_only=True):
    """Asks any server for its status. Answered by Report within a fraction of a second; slower details are left out."""


class ListLeases(WireMessage, frozen=True, kw_only=True):
    """Asks a registry for all registered and configured addresses. Answered by Leases."""


class HazelcastMember(NamedTuple):
    """A Hazelcast member as a logging node sees it, and the number of partitions that it owns."""

    uuid: Name
    address: Name
    partitions: Count


class Report(WireMessage, frozen=True, kw_only=True):
    """The status of a server; only logging nodes set the fields from `served` on.

    Attributes:
        service, state, version: the kind of server, its state and its software version.
        since_ms: when its state last changed.
        started_ms: when its process started.
        served, failed: the number of requests since then that it answered, and that failed.
        engine: "hazelcast" or "embedded".
        own_member: host:port of the Hazelcast member that it started.
        members: the Hazelcast cluster as it sees it.
        entries: the size of the map; the last known size while the map does not answer, -1 if unknown.
        messages, journal_bytes: the number of messages in its journal, and the size of the journal.
        synced_ms: when the journal was last flushed to the disk.
        term: the term of its in-sync set.
        in_sync: host:port of the listed replicas of that set, including its own; empty if it is in no set.
        unconfirmed: the number of records that it accepted and that some other replica has not confirmed.
        reason: why it is not ready or cannot write; empty if it is ready and can write.
    """

    service: Name
    state: State
    version: Name = VERSION
    since_ms: Since = 0
    started_ms: Since = 0
    served: Count = 0
    failed: Count = 0
    engine: Annotated[str, Meta(max_length=64)] = ""
    own_member: Annotated[str, Meta(max_length=64)] = ""
    members: Annotated[tuple[HazelcastMember, ...], Meta(max_length=1_000)] = ()
    entries: int = -1
    messages: Count = 0
    journal_bytes: Count = 0
    synced_ms: Since = 0
    term: Count = 0
    in_sync: Annotated[tuple[Name, ...], Meta(max_length=1_000)] = ()
    unconfirmed: Count = 0
    reason: Reason = ""


class LeaseInfo(NamedTuple):
    """The lease of an address at a registry.

    Attributes:
        service, address: the service, and host:port.
        listed: lookups return the address now.
        alive: the lease has not lapsed.
        configured: the address is in config.toml, so lookups return it if the service has no live lease.
        renewed_s: seconds since the last renewal; -1 if there was none.
    """

    service: Name
    address: Name
    listed: bool
    alive: bool
    configured: bool
    renewed_s: Annotated[float, Meta(ge=-1)]


class Leases(WireMessage, frozen=True, kw_only=True):
    """All addresses of a registry, up to 1,000, and the Hazelcast members in its configuration."""

    leases: Annotated[tuple[LeaseInfo, ...], Meta(max_length=1_000)]
    members: Annotated[tuple[str, ...], Meta(max_length=100)]


def report(service: str, state: State, **more: Any) -> Report:
    """A Report of this process; `more` sets further fields. `since_ms` defaults to the start of the process."""
    started_ms = _started_ms()
    return Report(service=service, state=state, **{"started_ms": started_ms, "since_ms": started_ms, **more})


@cache
def _started_ms() -> int:
    return int(1_000 * psutil.Process().create_time())
