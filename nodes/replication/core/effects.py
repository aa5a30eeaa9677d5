"""What the replication core is given, and what it asks its runtime to do. Plain values, no behaviour."""

import enum
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from common.discovery.leases import LEASE_S, RENEWAL_S
from common.protocol.codec import Reply, Request
from common.protocol.replication import Admit, Bootstrap, Fence, InSyncSet, Record, Renew

Token = Hashable  # the runtime's name for a request that waits for its answer
RegistryRequest = Renew | Fence | Admit | Bootstrap


@dataclass(frozen=True, slots=True)
class Settings:
    """Times in seconds, and limits.

    Attributes:
        confirm_s: a member that leaves something unanswered for so long is fenced; a commit takes about a millisecond.
        join_confirm_s: a joiner whose answers take longer is not admitted.
        heartbeat_s: between two renewals, and between two heartbeats to a peer.
        lease_s: how long a registry lists a replica after a renewal.
        registry_s: for a registry to answer.
        retry_s: between two requests of a joiner to the same peer.
        assemble_s: how long a replica that starts waits for the others of its last in-sync set.
        watermark_s: the longest delay of a watermark that a reader waits for, in case a Replicate carries it.
        standstill_s: a tick that is later than this means that the process stood still.
        suspend_s: after so long a standstill others may have fenced this replica: nothing is accepted, acknowledged or
            shown before a registry, or every member, has answered.
        hold_down_s, hold_down_max_s: how long a replica that was removed waits, doubled for each time within a minute.
        join_lag: records that a joiner may lack when it is admitted.
        window: Replicate messages to one peer that are unanswered.
        batch_records, batch_bytes: in one Replicate; the bytes are those of the texts.
        commit_records: in one commit, which keeps it below 10 ms.
        pending_bytes: of the texts that wait for their confirmation; one more is refused.
        min_in_sync: listed replicas below which writes are refused.
    """

    confirm_s: float = 0.25
    join_confirm_s: float = 0.1
    heartbeat_s: float = RENEWAL_S
    lease_s: float = LEASE_S
    registry_s: float = 0.5
    retry_s: float = 0.2
    assemble_s: float = 10.0
    watermark_s: float = 0.001
    standstill_s: float = 0.15
    suspend_s: float = 0.25
    hold_down_s: float = 0.5
    hold_down_max_s: float = 16.0
    join_lag: int = 2_000
    window: int = 4
    batch_records: int = 1_000
    batch_bytes: int = 524_288
    commit_records: int = 1_000
    pending_bytes: int = 67_108_864
    min_in_sync: int = 1


@dataclass(frozen=True, slots=True)
class Opened:
    """What a journal holds when it is opened.

    Attributes:
        incarnation: new, and committed.
        vector: for each incarnation, up to which number its records are here.
        in_sync: the last in-sync set that was stored.
    """

    incarnation: int
    vector: Mapping[int, int] = field(default_factory=dict)
    in_sync: InSyncSet | None = None


@dataclass(frozen=True, slots=True)
class Range:
    """The records of one origin in (after, upto]."""

    origin: int
    after: int
    upto: int
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request to a peer; give its answer, or None for none, to `Core.answered` with the number."""

    address: str
    number: int
    message: Request


@dataclass(frozen=True, slots=True)
class AnswerPeer:
    """Answer a request of a peer."""

    token: Token
    message: Reply


@dataclass(frozen=True, slots=True)
class Commit:
    """Store the ranges, and the in-sync set if it is given, in one flushed transaction; then call `Core.committed`."""

    ranges: tuple[Range, ...]
    in_sync: InSyncSet | None


@dataclass(frozen=True, slots=True)
class LoadRecords:
    """Read records of one origin after a number, as many as one Replicate takes; then call `Core.loaded`."""

    address: str
    origin: int
    after: int
    upto: int


@dataclass(frozen=True, slots=True)
class FindKey:
    """Look up which message an idempotency key belongs to; then call `Core.key_found`."""

    key: str


@dataclass(frozen=True, slots=True)
class Forward:
    """Pass the append of a keyed message on to the replica that decides about its key."""

    token: Token
    owner: str


@dataclass(frozen=True, slots=True)
class AskRegistries:
    """Ask the registries; give the answer to `Core.registry_answered`. A Renew goes to each of them."""

    message: RegistryRequest


@dataclass(frozen=True, slots=True)
class NewIncarnation:
    """Draw an incarnation and commit it; then call `Core.reborn`."""


class AppendOutcome(enum.Enum):
    """How an append ended."""

    STORED = "stored"  # on the disk of each in-sync replica
    REFUSED = "refused"  # certainly nothing was stored
    CONFLICT = "conflict"  # the idempotency key belongs to another text
    UNKNOWN = "unknown"  # it may be stored


@dataclass(frozen=True, slots=True)
class FinishAppend:
    """End an append.

    Attributes:
        message_id: the id under which a keyed message is stored.
        origin, upto: the incarnation and the number of its last record.
        reason: why it is not stored.
    """

    token: Token
    outcome: AppendOutcome
    message_id: str = ""
    origin: int = 0
    upto: int = 0
    reason: str = ""


Effect = Send | AnswerPeer | Commit | LoadRecords | FindKey | Forward | AskRegistries | NewIncarnation | FinishAppend
