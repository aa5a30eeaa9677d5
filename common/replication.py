"""The messages between logging nodes, by which their journals become one."""

import enum
from typing import Annotated, NamedTuple

from msgspec import Meta

from common.wire import PAGE_MESSAGES, Cursor, IdempotencyKey, MessageId, Name, Text, Wire


class Record(NamedTuple):
    """One message as journals pass it on: with the idempotency key that it came with, if any."""

    id: MessageId
    msg: Text
    key: IdempotencyKey | None


class Scope(enum.StrEnum):
    """Which messages of a journal are asked for."""

    ACCEPTED = "accepted"  # by the node itself
    OTHERS = "others"  # and what came from other nodes than the one that asks
    EVERYTHING = "everything"  # and what came from the one that asks: it may have lost its disk


class Fetch(Wire, frozen=True, kw_only=True):
    """Asks a logging node for what its journal (by name, "" for unknown) got after the number `after`. See Fetched.

    `node` (host:port) asks, for what is in the `scope`.
    """

    node: Name
    journal: Annotated[str, Meta(max_length=64)]
    after: Annotated[int, Meta(ge=0)]
    scope: Scope
    settled: Cursor = ""  # up to this id the disk of `node` has everything


class Fetched(Wire, frozen=True, kw_only=True):
    """What the journal of that name got, up to its number `next`; none, and `more`, if another one was asked for.

    When everything was asked for, `origins` are the nodes (host:port) that accepted the records: "" for the one that
    answers, "map" when it is not known.
    """

    journal: Name
    records: Annotated[tuple[Record, ...], Meta(max_length=PAGE_MESSAGES)]
    next: Annotated[int, Meta(ge=0)]
    more: bool
    origins: Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=PAGE_MESSAGES)] = ()


class Sync(Wire, frozen=True, kw_only=True):
    """Asks a logging node to fetch from `node` (host:port) now. Answered by Synced when all is on its disk."""

    node: Name


class Synced(Wire, frozen=True, kw_only=True):
    """All that the other node had accepted is on the disk of `node`."""

    node: Name


class Digest(Wire, frozen=True, kw_only=True):
    """Asks a logging node what its journal has up to the id `until`, from an hour on. Answered by Digested."""

    from_hour: Annotated[int, Meta(ge=0)]
    until: MessageId


class Hour(NamedTuple):
    """What a journal has of one hour (since 1970, by the ids): messages, and the sum of their checksums."""

    hour: int
    messages: int
    digest: int


class Digested(Wire, frozen=True, kw_only=True):
    """The hours of which a journal has any message, the first PAGE_MESSAGES of them."""

    hours: Annotated[tuple[Hour, ...], Meta(max_length=PAGE_MESSAGES)]


class Copy(Wire, frozen=True, kw_only=True):
    """Asks a logging node for what its journal has with an id in (after, until]. Answered by Page."""

    after: Cursor
    until: MessageId


class Verify(Wire, frozen=True, kw_only=True):
    """Asks a logging node to compare its journal up to `until` with those of its peers. Answered by Verified."""

    until: MessageId


class Verified(Wire, frozen=True, kw_only=True):
    """What a journal has now: messages, and the sum of their checksums; and how many it lacked before."""

    node: Name
    messages: int
    digest: int
    repaired: int
