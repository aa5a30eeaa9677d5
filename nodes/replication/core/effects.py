"""Settings and effects of the replication core: what it is given, and what its runtime must do. Values only."""

import enum
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from common.discovery.leases import LEASE_S, RENEWAL_S
from common.protocol.codec import Reply, Request
from common.protocol.replication import Admit, Bootstrap, Fence, InSyncSet, Record, Renew

Token = Hashable  # identifies a waiting request at the runtime
RegistryRequest = Renew | Fence | Admit | Bootstrap


@dataclass(frozen=True, slots=True)
class Settings:
    """Times in seconds, and limits.

    Attributes:
        confirm_s: a member that leaves a request unanswered this long is fenced; a commit takes about a millisecond.
        join_confirm_s: a joiner whose answers take longer is not admitted.
        heartbeat_s: interval of renewals, and of heartbeats to a peer.
        lease_s: how long a registry lists a replica after a renewal.
        registry_s: timeout for the answer of a registry.
        retry_s: interval of a joiner's requests to the same peer.
        assemble_s: how long a starting replica waits for the other members of its last in-sync set.
        watermark_s: the longest delay of a watermark that a reader waits for, in case a Replicate carries it.
        standstill_s: a tick that is later than this means that the process stood still.
        suspend_s: after a standstill of this length others may have fenced this replica: it accepts, acknowledges and
            shows nothing before a registry, or every member, has answered.
        hold_down_s, hold_down_max_s: how long a fenced replica waits before it is admitted again: the first time, and
            at most; the wait doubles with each fence within a minute.
        join_lag: records that a joiner may lack when it is admitted.
        window: unanswered Replicate messages to one peer.
        batch_records, batch_bytes: limits of one Replicate; the bytes count texts and fields only.
        commit_records: limit of one commit, which keeps it below 10 ms.
        pending_bytes: bytes of texts and fields that wait for confirmations; above it, appends are refused.
        min_in_sync: writes are refused while fewer replicas are listed.
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
    """The contents of a journal when it is opened.

    Attributes:
        incarnation: the new incarnation, already committed.
        vector: for each incarnation, the sequence number up to which the journal has its records.
        in_sync: the last in-sync set that was stored; None if there is none.
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
    """Send a request to a peer; pass its answer, or None for none, to `Core.answered` with the number."""

    address: str
    number: int
    message: Request


@dataclass(frozen=True, slots=True)
class AnswerPeer:
    """Answer the request of a peer that the token identifies."""

    token: Token
    message: Reply


@dataclass(frozen=True, slots=True)
class Commit:
    """Store the ranges and the in-sync set, if any, in one flushed transaction; then call `Core.committed`."""

    ranges: tuple[Range, ...]
    in_sync: InSyncSet | None


@dataclass(frozen=True, slots=True)
class LoadRecords:
    """Read the records of one origin in (after, upto], as many as fit one Replicate; then call `Core.loaded`."""

    address: str
    origin: int
    after: int
    upto: int


@dataclass(frozen=True, slots=True)
class FindKey:
    """Look up the message of an idempotency key; then call `Core.key_found`."""

    key: str


@dataclass(frozen=True, slots=True)
class Forward:
    """Forward the append of a keyed message to the owner of its key."""

    token: Token
    owner: str


@dataclass(frozen=True, slots=True)
class AskRegistries:
    """Send a request to the registries, a Renew to each of them; pass the answer to `Core.registry_answered`."""

    message: RegistryRequest


@dataclass(frozen=True, slots=True)
class NewIncarnation:
    """Draw an incarnation and commit it; then call `Core.begin_incarnation`."""


class AppendOutcome(enum.Enum):
    """How an append ended."""

    STORED = "stored"  # on the disk of each in-sync replica
    REFUSED = "refused"  # certainly nothing was stored
    CONFLICT = "conflict"  # the idempotency key belongs to another content
    EXPIRED = "expired"  # the owner of its key does not store it, because retention has removed newer messages there
    UNKNOWN = "unknown"  # the message may be stored


@dataclass(frozen=True, slots=True)
class FinishAppend:
    """Report the outcome of an append to its caller.

    Attributes:
        token: identifies the append.
        outcome: how it ended.
        message_id: the id under which a keyed message is stored.
        origin, upto: the origin of the records, and the sequence number of the last one.
        reason: why they are not stored.
    """

    token: Token
    outcome: AppendOutcome
    message_id: str = ""
    origin: int = 0
    upto: int = 0
    reason: str = ""


Effect = Send | AnswerPeer | Commit | LoadRecords | FindKey | Forward | AskRegistries | NewIncarnation | FinishAppend
