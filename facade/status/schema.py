"""What `/v1/cluster` tells. The texts beside the fields are those of the API's description."""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

Reachability = Literal["up", "suspect", "down"]

Address = Annotated[str, Meta(description="host:port")]
Up = Annotated[
    Reachability,
    Meta(description="`suspect`: it did not answer a request lately and is asked last; `down`: it does not answer now"),
]
Since = Annotated[str, Meta(description="since when it is so, as far as this facade knows (RFC 3339)")]
LeaseAge = Annotated[
    float | None,
    Meta(description="seconds since it registered last (each does so once a second); null: it never did"),
]
RoundTrip = Annotated[float | None, Meta(description="milliseconds for its answer just now; null: there was none")]
Version = Annotated[str, Meta(description="of the program; empty when it is not known")]
Listed = Annotated[bool, Meta(description="a registry lists it, so that it gets requests")]


class ServerStatus(Struct, frozen=True, kw_only=True):
    """A registry, a messages node or a facade."""

    address: Address
    status: Up
    since: Since
    version: Version = ""
    round_trip_ms: RoundTrip = None
    lease_age_s: LeaseAge = None


class NodeStatus(ServerStatus, frozen=True, kw_only=True):
    """A logging node: what it says of itself, and what this facade saw of it."""

    state: Annotated[
        str, Meta(description="what it says: starting, forming, joining, ready or leaving; down when it says nothing")
    ]
    listed: Listed
    reason: Annotated[str, Meta(description="why it is not ready or cannot write; empty when it is and can")] = ""
    term: Annotated[int, Meta(description="of its in-sync set: each change of the set raises it")] = 0
    in_sync: Annotated[
        list[str],
        Meta(
            description="listed replicas that confirm a record before it is acknowledged, itself included (host:port)"
        ),
    ] = field(default_factory=list)
    unconfirmed: Annotated[int, Meta(description="records that it accepted and another replica has not confirmed")] = 0
    started: Annotated[str, Meta(description="when its process started (RFC 3339); empty when it does not answer")] = ""
    served: Annotated[int, Meta(description="requests of this facade that it answered")] = 0
    errors: Annotated[int, Meta(description="requests of this facade that it did not answer, or refused")] = 0
    p50_ms: Annotated[float | None, Meta(description="median of its last 1,000 answers here, in ms; null: none")] = None
    p99_ms: Annotated[float | None, Meta(description="99 of 100 of these took at most so long; null: none")] = None
    total: Annotated[int, Meta(description="requests of all facades that it answered since it started")] = 0
    member: Annotated[str, Meta(description="host:port of the Hazelcast member that it started")] = ""
    messages: Annotated[int, Meta(description="messages on its disk")] = 0
    journal_bytes: Annotated[int, Meta(description="size of its journal")] = 0
    synced: Annotated[str, Meta(description="when its journal was flushed to the disk last (RFC 3339)")] = ""


class MemberStatus(Struct, frozen=True, kw_only=True):
    """A Hazelcast member, as the logging nodes see it."""

    address: Address
    uuid: Annotated[str, Meta(description="its uuid; empty when no node sees it")]
    node: Annotated[str, Meta(description="the logging node that started it")]
    partitions: Annotated[int, Meta(description="partitions of the map that it owns; the others have copies")]
    seen_by: Annotated[list[str], Meta(description="logging nodes that see it")]


class HazelcastStatus(Struct, frozen=True, kw_only=True):
    """The map: a projection of the recent log, in memory. Nothing that is acknowledged depends on it."""

    partitions: Annotated[int, Meta(description="of the map, all together")]
    entries: Annotated[int | None, Meta(description="messages in the map; null: it does not say")]
    members: list[MemberStatus]


Kind = Annotated[
    Literal[
        "node-up",
        "node-down",
        "node-suspect",
        "node-changed",
        "member-joined",
        "member-left",
        "partitions-moved",
        "fallback-burst",
        "registry-up",
        "registry-silent",
        "replica-fenced",
        "replica-in-sync",
        "safe",
        "not-safe",
    ],
    Meta(description="what happened"),
]


class StatusEvent(Struct, frozen=True, kw_only=True):
    """Something that changed."""

    time: Annotated[str, Meta(description="when this facade noticed it (RFC 3339)")]
    kind: Kind
    subject: Annotated[str, Meta(description="of whom it is told: host:port, or empty for the whole")]
    text: Annotated[str, Meta(description="one sentence")]


class RequestRateSample(Struct, frozen=True, kw_only=True):
    """What this facade answered to requests for messages in one second."""

    time: Annotated[str, Meta(description="the end of it (RFC 3339)")]
    requests_per_s: Annotated[float, Meta(description="requests a second")]
    p50_ms: Annotated[float | None, Meta(description="median time of an answer, in milliseconds; null: there was none")]
    p99_ms: Annotated[float | None, Meta(description="99 of 100 took at most so long; null: there was none")]


class RequestRateHistory(Struct, frozen=True, kw_only=True):
    """The last five minutes."""

    samples: Annotated[list[RequestRateSample], Meta(description="one for each second, the oldest first")]


class ClusterStatus(Struct, frozen=True, kw_only=True):
    """The whole, as one facade sees it."""

    safe: Annotated[
        bool,
        Meta(description="every two logging nodes are in sync with each other: any two may die, and nothing is lost"),
    ]
    reason: Annotated[str, Meta(description="why it is safe or not")]
    time: Annotated[str, Meta(description="when this was so (RFC 3339)")]
    engine: Annotated[str, Meta(description="hazelcast, or embedded: without a Hazelcast map")]
    registries: list[ServerStatus]
    facades: list[ServerStatus]
    messages_nodes: list[ServerStatus]
    logging_nodes: list[NodeStatus]
    hazelcast: HazelcastStatus
    traffic: RequestRateSample
    warnings: Annotated[list[str], Meta(description="what is open that should not be: each one sentence")]
    events: Annotated[list[StatusEvent], Meta(description="the last 200, the newest first")]
