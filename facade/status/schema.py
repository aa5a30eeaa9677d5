"""The status of the cluster in `/v1/cluster`. The texts of the fields appear in the description of the API."""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

Reachability = Literal["up", "suspect", "down"]

Address = Annotated[str, Meta(description="host:port")]
Up = Annotated[
    Reachability,
    Meta(description="`suspect`: it failed to answer a recent request and is tried last; `down`: it does not answer"),
]
Since = Annotated[str, Meta(description="Start of the current status, as observed by this facade (RFC 3339)")]
LeaseAge = Annotated[
    float | None,
    Meta(description="Seconds since the last renewal of its lease, which is due each second; null: never"),
]
RoundTrip = Annotated[float | None, Meta(description="Milliseconds until its latest answer; null: it does not answer")]
Version = Annotated[str, Meta(description="Version of the program; empty if unknown")]
Listed = Annotated[bool, Meta(description="A registry lists it, so that it gets requests")]


class ServerStatus(Struct, frozen=True, kw_only=True):
    """A registry, a messages node or a facade."""

    address: Address
    status: Up
    since: Since
    version: Version = ""
    round_trip_ms: RoundTrip = None
    lease_age_s: LeaseAge = None


class NodeStatus(ServerStatus, frozen=True, kw_only=True):
    """A logging node: what it reports, and what this facade observed."""

    state: Annotated[str, Meta(description="What it reports: starting, forming, joining, ready or leaving; else down")]
    listed: Listed
    reason: Annotated[str, Meta(description="Why it is not ready or cannot write; empty if there is no reason")] = ""
    term: Annotated[int, Meta(description="Term of its in-sync set: each change of the set raises it")] = 0
    in_sync: Annotated[
        list[str],
        Meta(
            description="Listed replicas that confirm a record before it is acknowledged, including itself (host:port)"
        ),
    ] = field(default_factory=list)
    unconfirmed: Annotated[int, Meta(description="Records that it accepted and another replica has not confirmed")] = 0
    started: Annotated[str, Meta(description="Start of its process (RFC 3339); empty if it does not answer")] = ""
    served: Annotated[int, Meta(description="Requests of this facade that it answered")] = 0
    errors: Annotated[int, Meta(description="Requests of this facade that it did not answer, or refused")] = 0
    p50_ms: Annotated[float | None, Meta(description="Median of its last 1,000 latencies, in ms; null: none")] = None
    p99_ms: Annotated[float | None, Meta(description="99th percentile of these latencies, in ms; null: none")] = None
    total: Annotated[int, Meta(description="Requests of all facades that it answered since its start")] = 0
    member: Annotated[str, Meta(description="host:port of the Hazelcast member that it started")] = ""
    messages: Annotated[int, Meta(description="Messages on its disk")] = 0
    journal_bytes: Annotated[int, Meta(description="Size of its journal in bytes")] = 0
    synced: Annotated[str, Meta(description="Last flush of its journal to disk (RFC 3339)")] = ""


class MemberStatus(Struct, frozen=True, kw_only=True):
    """A Hazelcast member, as the logging nodes see it."""

    address: Address
    uuid: Annotated[str, Meta(description="Its UUID; empty if no node sees it")]
    node: Annotated[str, Meta(description="Logging node that started it (host:port); empty if unknown")]
    partitions: Annotated[int, Meta(description="Partitions of the map that it owns; other members have copies")]
    seen_by: Annotated[list[str], Meta(description="Logging nodes that see it (host:port)")]


class HazelcastStatus(Struct, frozen=True, kw_only=True):
    """The Hazelcast map: a projection of the recent log in memory. No acknowledged record depends on it."""

    partitions: Annotated[int, Meta(description="Number of all partitions of the map")]
    entries: Annotated[int | None, Meta(description="Messages in the map; null: unknown")]
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
        "retry-burst",
        "registry-up",
        "registry-down",
        "replica-fenced",
        "replica-in-sync",
        "safe",
        "not-safe",
    ],
    Meta(description="Kind of change"),
]


class StatusEvent(Struct, frozen=True, kw_only=True):
    """A change of the cluster."""

    time: Annotated[str, Meta(description="When this facade noticed the change (RFC 3339)")]
    kind: Kind
    subject: Annotated[str, Meta(description="host:port of the process that changed; empty for the whole cluster")]
    text: Annotated[str, Meta(description="One sentence that describes the change")]


class RequestRateSample(Struct, frozen=True, kw_only=True):
    """The requests for messages that this facade answered in one second."""

    time: Annotated[str, Meta(description="End of the second (RFC 3339)")]
    requests_per_s: Annotated[float, Meta(description="Requests per second")]
    p50_ms: Annotated[float | None, Meta(description="Median latency, in milliseconds; null: no requests")]
    p99_ms: Annotated[float | None, Meta(description="99th percentile of latency, in milliseconds; null: no requests")]


class RequestRateHistory(Struct, frozen=True, kw_only=True):
    """The request rate in the last five minutes."""

    samples: Annotated[list[RequestRateSample], Meta(description="One sample for each second, the oldest first")]


class ClusterStatus(Struct, frozen=True, kw_only=True):
    """The status of the cluster, as one facade sees it."""

    safe: Annotated[
        bool,
        Meta(description="Any two logging nodes may die without loss, because all are in sync with each other"),
    ]
    reason: Annotated[str, Meta(description="Why the cluster is safe or not")]
    time: Annotated[str, Meta(description="When the status was collected (RFC 3339)")]
    engine: Annotated[str, Meta(description="`hazelcast`, or `embedded` without a Hazelcast map; empty if unknown")]
    registries: list[ServerStatus]
    facades: list[ServerStatus]
    messages_nodes: list[ServerStatus]
    logging_nodes: list[NodeStatus]
    hazelcast: HazelcastStatus
    traffic: RequestRateSample
    warnings: Annotated[list[str], Meta(description="Warnings about unprotected interfaces, each one sentence")]
    events: Annotated[list[StatusEvent], Meta(description="The last 200 events, the newest first")]
