"""The messages with which logging nodes replicate records, and agree with the registries on the in-sync set."""

import enum
from typing import Annotated, NamedTuple

from msgspec import Meta

from common.protocol.content import Cursor, Fields, IdempotencyKey, MessageId, Text
from common.protocol.messages import PAGE_MESSAGES, Name, WireMessage
from common.protocol.vectors import Incarnation, Sequence, Term, Vector

MEMBERS = 100  # limit on the replicas in an in-sync set


class Identity(NamedTuple):
    """Identifies one process of a logging node: its address (host:port) and its incarnation."""

    address: Name
    incarnation: Incarnation


class Member(NamedTuple):
    """A replica of an in-sync set.

    Attributes:
        address: host:port.
        incarnation: the incarnation of its process; after a restart the node is another member.
        since: the term in which it was added.
        listed: lookups return it to clients. False while it joins: it confirms records, but may lack earlier ones.
    """

    address: Name
    incarnation: Incarnation
    since: Term
    listed: bool

    @property
    def identity(self) -> Identity:
        """The address and incarnation of the member."""
        return Identity(self.address, self.incarnation)


class InSyncSet(NamedTuple):
    """The replicas that must confirm a record before it is acknowledged.

    Attributes:
        term: the number of the set; each change increases it.
        members: the replicas, sorted by address.
    """

    term: Term
    members: Annotated[tuple[Member, ...], Meta(max_length=MEMBERS)]

    def find(self, identity: Identity) -> Member | None:
        """The member with this address and incarnation; None if there is none."""
        return next((one for one in self.members if one.identity == identity), None)

    @property
    def listed(self) -> tuple[Member, ...]:
        """The members that lookups return to clients."""
        return tuple(one for one in self.members if one.listed)


NO_SET = InSyncSet(0, ())


class Record(NamedTuple):
    """A message in the form in which it is replicated.

    Attributes:
        sequence, id: its origin sequence and its id.
        msg, fields: its content.
        key: its idempotency key; None without one.
        term: the term of the replica that decided about the key, or 0; of two messages the higher term is kept.
    """

    sequence: Sequence
    id: MessageId
    msg: Text
    key: IdempotencyKey | None = None
    term: Term = 0
    fields: Fields = ""


class Join(WireMessage, frozen=True, kw_only=True):
    """Tells a logging node that `node` is not in sync and wants to join. Answered by ReplicaState.

    Attributes:
        node, incarnation: the sender.
        in_sync: the in-sync set of the sender; without members while it is in none.
        vector: the complete version vector of its journal.
        wants_records: the receiver shall send the records that this vector lacks; set for one receiver at a time.
        can_serve: its storage is open, so it can serve clients once it is listed.
    """

    node: Name
    incarnation: Incarnation
    in_sync: InSyncSet
    vector: Vector
    wants_records: bool
    can_serve: bool


class Heartbeat(WireMessage, frozen=True, kw_only=True):
    """Tells a member of the same in-sync set the replication progress of the sender. Answered by ReplicaState.

    Attributes:
        node, incarnation: the sender.
        in_sync: the in-sync set of the sender.
        vector: the complete version vector until the receiver has answered one; then only the entries that changed
            since the sender started.
        whole: the vector is complete.
        pending: the records beyond `vector` that the sender is committing.
        watermark: the sequence up to which the sender's own records are on the disk of each member of its in-sync set.
        wants_watermark: reads wait at the sender; the receiver shall send its own watermark as soon as it increases.
    """

    node: Name
    incarnation: Incarnation
    in_sync: InSyncSet
    vector: Vector
    pending: Vector
    watermark: Sequence
    wants_watermark: bool = False
    whole: bool = False


class ReplicaState(WireMessage, frozen=True, kw_only=True):
    """The state of a logging node, in answer to Join (then `vector` is complete) or Heartbeat; fields as there.

    `ready` is true while it serves clients.
    """

    node: Name
    incarnation: Incarnation
    ready: bool
    can_serve: bool
    in_sync: InSyncSet
    vector: Vector
    pending: Vector
    watermark: Sequence


class Replicate(WireMessage, frozen=True, kw_only=True):
    """Asks a logging node to store the records of one origin in (after, upto]. Answered by Replicated.

    A sequence in that range without a record was removed by retention, or replaced by another message with the same
    idempotency key.

    Attributes:
        node, incarnation: the sender.
        term: the term of the sender's in-sync set; 0 if it is in none.
        origin, after, upto: the range of origin sequences.
        records: the records of the range, in ascending order.
        watermark: as in Heartbeat.
    """

    node: Name
    incarnation: Incarnation
    term: Term
    origin: Incarnation
    after: Sequence
    upto: Sequence
    records: Annotated[tuple[Record, ...], Meta(max_length=PAGE_MESSAGES)]
    watermark: Sequence


class Replicated(WireMessage, frozen=True, kw_only=True):
    """Confirms that the records of `origin` up to `upto` are on the disk of `node`.

    `in_sync` is the receiver's in-sync set if its term is above the term of the request, else nil. If the sender is not
    a member of that set, it is fenced, and nothing was stored.
    """

    node: Name
    incarnation: Incarnation
    term: Term
    origin: Incarnation
    upto: Sequence
    in_sync: InSyncSet | None = None


class Renew(WireMessage, frozen=True, kw_only=True):
    """Renews the lease of a logging node at a registry. Answered by Renewed.

    Attributes:
        node, incarnation: the sender.
        registry: the random number of the registry's start, from its last answer; 0 if unknown. A renewal with another
            number does not count, because it may have waited in a queue since before that start.
        in_sync: the in-sync set of `node`, or the last one that it was a member of.
        ready: it serves clients.
    """

    node: Name
    incarnation: Incarnation
    registry: Incarnation
    in_sync: InSyncSet
    ready: bool


class Fence(WireMessage, frozen=True, kw_only=True):
    """Asks a registry to remove members from the in-sync set; `node` must be a listed member. Answered by Renewed."""

    node: Name
    incarnation: Incarnation
    targets: Annotated[tuple[Identity, ...], Meta(max_length=MEMBERS)]


class Admit(WireMessage, frozen=True, kw_only=True):
    """Asks a registry to add `joiner` to the in-sync set, or to list it. Answered by Renewed.

    First, a listed member asks for a joiner that has nearly caught up: it is added, and confirms records, but is not
    listed. Then the joiner asks for itself, when it has all records from before it was added in term `since`: it is
    listed.
    """

    node: Name
    incarnation: Incarnation
    joiner: Identity
    since: Term = 0


class Bootstrap(WireMessage, frozen=True, kw_only=True):
    """Asks a registry to install a new in-sync set, if no member of the last one is left. Answered by Renewed.

    `term` is the highest term that any of the `members` has seen; all `members` have the same records.
    """

    node: Name
    incarnation: Incarnation
    term: Term
    members: Annotated[tuple[Identity, ...], Meta(max_length=MEMBERS)]


class Standing(enum.StrEnum):
    """The standing of a logging node at a registry."""

    STARTING = "starting"  # the registry itself has just started: nothing was done
    LISTED = "listed"  # a listed member of the in-sync set: lookups return it to clients
    JOINING = "joining"  # a member that confirms records, and is not listed yet
    OUTSIDE = "outside"  # not a member: it was fenced, or has not joined


class Renewed(WireMessage, frozen=True, kw_only=True):
    """The registry's answer to a logging node.

    Attributes:
        registry: a random number that the registry draws at each start.
        standing: the standing of the node that asked.
        in_sync: the current in-sync set.
        live: host:port of its listed members that serve clients and whose leases have not lapsed.
    """

    registry: Incarnation
    standing: Standing
    in_sync: InSyncSet
    live: Annotated[tuple[Name, ...], Meta(max_length=MEMBERS)]


class Digest(WireMessage, frozen=True, kw_only=True):
    """Asks a logging node for digests of its journal by hour, up to the id `until`. Answered by Digested."""

    from_hour: Annotated[int, Meta(ge=0)]
    until: MessageId


class HourDigest(NamedTuple):
    """The digest of one hour of a journal: hour since 1970 (by id), number of messages, sum of their checksums."""

    hour: int
    messages: int
    digest: int


class Digested(WireMessage, frozen=True, kw_only=True):
    """The digests of the first PAGE_MESSAGES hours in which a journal has any message."""

    hours: Annotated[tuple[HourDigest, ...], Meta(max_length=PAGE_MESSAGES)]


class ListEntries(WireMessage, frozen=True, kw_only=True):
    """Asks a logging node for the messages in its journal with an id in (after, until]. Answered by Page."""

    after: Cursor
    until: MessageId


class Verify(WireMessage, frozen=True, kw_only=True):
    """Asks a logging node to compare its journal up to `until` with the others and repair it. Answered by Verified."""

    until: MessageId


class Verified(WireMessage, frozen=True, kw_only=True):
    """The number of messages in a journal after its repair, the sum of their checksums, and the number it lacked."""

    node: Name
    messages: int
    digest: int
    repaired: int
