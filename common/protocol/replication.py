"""The messages by which logging nodes replicate records, and agree with the registries on who is in sync."""

import enum
from typing import Annotated, NamedTuple

from msgspec import Meta

from common.protocol.messages import PAGE_MESSAGES, Cursor, IdempotencyKey, MessageId, Name, Text, WireMessage
from common.protocol.vectors import Incarnation, Sequence, Term, Vector

MEMBERS = 100  # replicas in one in-sync set


class Identity(NamedTuple):
    """One run of a logging node: its address (host:port) and its incarnation."""

    address: Name
    incarnation: Incarnation


class Member(NamedTuple):
    """A replica of an in-sync set.

    Attributes:
        address: host:port.
        incarnation: of its process; a node that starts again is another member.
        since: the term in which it was added.
        listed: clients are sent to it. False while it joins: it confirms already, and may still lack records.
    """

    address: Name
    incarnation: Incarnation
    since: Term
    listed: bool

    @property
    def identity(self) -> Identity:
        """Its address and incarnation."""
        return Identity(self.address, self.incarnation)


class InSyncSet(NamedTuple):
    """The replicas that must confirm a record before it is acknowledged.

    Attributes:
        term: numbers the sets; each change raises it.
        members: sorted by address.
    """

    term: Term
    members: Annotated[tuple[Member, ...], Meta(max_length=MEMBERS)]

    def find(self, identity: Identity) -> Member | None:
        """The member of that address and incarnation."""
        return next((one for one in self.members if one.identity == identity), None)

    @property
    def listed(self) -> tuple[Member, ...]:
        """The members that clients are sent to."""
        return tuple(one for one in self.members if one.listed)


NO_SET = InSyncSet(0, ())


class Record(NamedTuple):
    """One message with its number in its origin, and the idempotency key that it came with, if any.

    `term` is that of the replica that decided about the key; 0 without one. Of two messages with one key that a split
    or a death has left, the one of the higher term stays.
    """

    sequence: Sequence
    id: MessageId
    msg: Text
    key: IdempotencyKey | None = None
    term: Term = 0


class Join(WireMessage, frozen=True, kw_only=True):
    """Tells a logging node that `node` is not in sync and wants to be. Answered by ReplicaState.

    Attributes:
        in_sync: the in-sync set of `node`; without members while it is in none.
        vector: everything that its journal has.
        wants_records: the receiver is to send what this vector lacks; one receiver is asked for that at a time.
        can_serve: its storage is open, so that clients may be sent to it.
    """

    node: Name
    incarnation: Incarnation
    in_sync: InSyncSet
    vector: Vector
    wants_records: bool
    can_serve: bool


class Heartbeat(WireMessage, frozen=True, kw_only=True):
    """Tells a member of the same in-sync set how far the sender is. Answered by ReplicaState.

    Attributes:
        vector: the whole one until the receiver has answered that; then the entries that changed since the sender
            started.
        whole: the vector is the whole one.
        pending: what it is about to commit beyond `vector`.
        confirmed: up to this number its own records are on the disk of each member of its in-sync set.
        wants_confirmed: readers wait at the sender: the receiver sends its own `confirmed` as soon as it grows.
    """

    node: Name
    incarnation: Incarnation
    in_sync: InSyncSet
    vector: Vector
    pending: Vector
    confirmed: Sequence
    wants_confirmed: bool = False
    whole: bool = False


class ReplicaState(WireMessage, frozen=True, kw_only=True):
    """How a logging node is, in answer to Join (then `vector` is complete) or Heartbeat; fields as there.

    `ready` is true while it serves clients.
    """

    node: Name
    incarnation: Incarnation
    ready: bool
    can_serve: bool
    in_sync: InSyncSet
    vector: Vector
    pending: Vector
    confirmed: Sequence


class Replicate(WireMessage, frozen=True, kw_only=True):
    """Asks a logging node to store the records of one origin in (after, upto]. Answered by Replicated.

    A number that is missing among the records was removed by retention, or by another message with the same key.

    Attributes:
        node, incarnation: the sender.
        term: of the sender's in-sync set; 0 when it is in none.
        confirmed: as in Heartbeat.
    """

    node: Name
    incarnation: Incarnation
    term: Term
    origin: Incarnation
    after: Sequence
    upto: Sequence
    records: Annotated[tuple[Record, ...], Meta(max_length=PAGE_MESSAGES)]
    confirmed: Sequence


class Replicated(WireMessage, frozen=True, kw_only=True):
    """Up to `upto` the records of `origin` are on the disk of `node`.

    `in_sync` is the receiver's in-sync set when its term is above that of the request, else nil. A sender that is no
    member of it is fenced: nothing was stored.
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
        registry: the start of the registry for which this is meant, as its last answer named it; 0 when unknown. A
            renewal for another start does not count: it may have waited in a queue.
        in_sync: the in-sync set of `node`, or the last one that it was a member of.
        ready: it serves clients.
    """

    node: Name
    incarnation: Incarnation
    registry: Incarnation
    in_sync: InSyncSet
    ready: bool


class Fence(WireMessage, frozen=True, kw_only=True):
    """Asks a registry to take members out of the in-sync set, for a listed member, `node`. Answered by Renewed."""

    node: Name
    incarnation: Incarnation
    targets: Annotated[tuple[Identity, ...], Meta(max_length=MEMBERS)]


class Admit(WireMessage, frozen=True, kw_only=True):
    """Asks a registry to take `joiner` into the in-sync set. Answered by Renewed.

    A member asks for a joiner that has nearly caught up, which then confirms and is not listed. The joiner asks for
    itself when it has everything that there was when it was admitted in the term `since`, and is listed.
    """

    node: Name
    incarnation: Incarnation
    joiner: Identity
    since: Term = 0


class Bootstrap(WireMessage, frozen=True, kw_only=True):
    """Asks a registry for a new in-sync set, when no member of the last one is left. Answered by Renewed.

    `term` is the highest that any of the members has seen; `members` have the same records.
    """

    node: Name
    incarnation: Incarnation
    term: Term
    members: Annotated[tuple[Identity, ...], Meta(max_length=MEMBERS)]


class Standing(enum.StrEnum):
    """What a registry says of the logging node that asks."""

    STARTING = "starting"  # the registry itself has just started: nothing was done
    LISTED = "listed"  # clients are sent to it
    JOINING = "joining"  # it confirms records, and is not listed yet
    OUTSIDE = "outside"  # it is not in sync: it was fenced, or has not joined


class Renewed(WireMessage, frozen=True, kw_only=True):
    """The registry's answer to a logging node.

    Attributes:
        registry: a random number that the registry draws when it starts.
        standing: of the node that asked.
        in_sync: the current in-sync set.
        live: its listed members whose leases have not lapsed.
    """

    registry: Incarnation
    standing: Standing
    in_sync: InSyncSet
    live: Annotated[tuple[Name, ...], Meta(max_length=MEMBERS)]


class Digest(WireMessage, frozen=True, kw_only=True):
    """Asks a logging node what its journal has up to the id `until`, from an hour on. Answered by Digested."""

    from_hour: Annotated[int, Meta(ge=0)]
    until: MessageId


class HourDigest(NamedTuple):
    """What a journal has of one hour (since 1970, by the ids): messages, and the sum of their checksums."""

    hour: int
    messages: int
    digest: int


class Digested(WireMessage, frozen=True, kw_only=True):
    """The hours of which a journal has any message, the first PAGE_MESSAGES of them."""

    hours: Annotated[tuple[HourDigest, ...], Meta(max_length=PAGE_MESSAGES)]


class ListEntries(WireMessage, frozen=True, kw_only=True):
    """Asks a logging node for what its journal has with an id in (after, until]. Answered by Page."""

    after: Cursor
    until: MessageId


class Verify(WireMessage, frozen=True, kw_only=True):
    """Asks a logging node to compare its journal up to `until` with the others, and mend it. Answered by Verified."""

    until: MessageId


class Verified(WireMessage, frozen=True, kw_only=True):
    """What a journal has now: messages, and the sum of their checksums; and how many it lacked before."""

    node: Name
    messages: int
    digest: int
    repaired: int
