"""What an operator wants to know of a server and asks it over the wire; see `common.wire` for the rest."""

from functools import cache
from typing import Annotated, Any, NamedTuple

import psutil
from msgspec import Meta

from common import VERSION
from common.protocol.messages import Name, Reason, State, WireMessage

Count = Annotated[int, Meta(ge=0)]
Since = Annotated[int, Meta(ge=0)]  # milliseconds since 1970, 0 for never


class Inspect(WireMessage, frozen=True, kw_only=True):
    """Asks any server how it is. Answered by Report, within a fraction of a second: what takes longer is left out."""


class ListLeases(WireMessage, frozen=True, kw_only=True):
    """Asks a registry for everyone it knows. Answered by Called."""


class HazelcastMember(NamedTuple):
    """A Hazelcast member as the client of a node sees it, with the partitions that it owns."""

    uuid: Name
    address: Name
    partitions: Count


class Report(WireMessage, frozen=True, kw_only=True):
    """How a server is; all but the first five fields are of logging nodes.

    Attributes:
        since_ms: when its state became what it is.
        started_ms: when its process started.
        served, failed: requests that it answered, and that it could not, since then.
        engine: "hazelcast" or "embedded".
        members: the cluster as it sees it; `own_member` (host:port) is the one that it started.
        entries: in the map; the last known number when it does not say, -1 for none.
        messages: in its journal, of `journal_bytes`.
        synced_ms: when the journal was flushed to the disk last.
        term: of its in-sync set.
        in_sync: addresses (host:port) of the listed replicas of that set, its own included; none while it is in none.
        unconfirmed: records that it has accepted and another replica has not confirmed.
        reason: why it is not ready, or cannot write; empty when it is and can.
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
    """What a registry knows of an address.

    Attributes:
        listed: it is handed out now.
        alive: its lease has not lapsed.
        configured: it is handed out when nobody has a lease.
        renewed_s: seconds since it registered last; -1 for never.
    """

    service: Name
    address: Name
    listed: bool
    alive: bool
    configured: bool
    renewed_s: Annotated[float, Meta(ge=-1)]


class Leases(WireMessage, frozen=True, kw_only=True):
    """Everyone a registry knows, up to 1,000, and the addresses of the Hazelcast members in its configuration."""

    leases: Annotated[tuple[LeaseInfo, ...], Meta(max_length=1_000)]
    members: Annotated[tuple[str, ...], Meta(max_length=100)]


def report(service: str, state: State, **more: Any) -> Report:
    """How this process is."""
    started_ms = _started_ms()
    return Report(service=service, state=state, **{"started_ms": started_ms, "since_ms": started_ms, **more})


@cache
def _started_ms() -> int:
    return int(1_000 * psutil.Process().create_time())
