"""The interface of a journal. `sqlite` is the real one, `memory` its twin; one contract suite tests both."""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from common.protocol.messages import Entry
from common.protocol.replication import HourDigest, InSyncSet
from nodes.replication.core.effects import Opened, Range

ABOVE_ALL = "g"  # greater than every id, because ids are hexadecimal
KEY_S = 86_400  # lifetime of an idempotency key: a day, as long as clients are likely to retry
LOAD_BYTES = 524_288  # of text in one `load`: half of what a frame may hold, because the last text may be long


class Claim(NamedTuple):
    """The message that owns an idempotency key: its id, the digest of its text, and the term of that decision."""

    message_id: str
    digest: str
    term: int = 0

    def yields_to(self, other: "Claim") -> bool:
        """True if the other claim replaces this one: the same text, and a higher term or then a lower id."""
        return self.digest == other.digest and (-self.term, self.message_id) > (-other.term, other.message_id)


class Arrival(NamedTuple):
    """A message, its number in order of arrival at this journal, and the node that accepted it ("" if unknown)."""

    number: int
    entry: Entry
    node: str


class Size(NamedTuple):
    """The size of a journal, and the time of its last flush (ms since 1970; 0: none by this process)."""

    messages: int
    bytes: int
    flushed_ms: int


class Journal(Protocol):
    """A store of records by origin and sequence, and of messages by id.

    Each method raises StoreError when it fails: it may be called again, unless `broken` is set.

    Attributes:
        opened: the content when the journal was opened, and the new incarnation.
        name: a UUID of this journal; a copy that another node opens gets a new one.
        broken: set when the content cannot be trusted any more.
        why: the reason for `broken`, "" before.
    """

    opened: Opened
    name: str
    broken: asyncio.Event
    why: str

    async def commit(self, ranges: Sequence[Range], in_sync: InSyncSet | None) -> None:
        """Store ranges, the version vector that results, and the in-sync set, in one flushed transaction.

        A message whose id is already stored keeps its text; its new record is stored as an alias. Records up to the
        vector are already stored and are ignored. Records that retention would have removed are not stored, but the
        vector includes them. Of two messages with one key and one text, the one that yields is removed permanently.
        """

    def commit_now(self, ranges: Sequence[Range], in_sync: InSyncSet | None) -> bool:
        """Commit before returning, if that takes less time than handing the commit to another thread.

        Returns: True if it was committed, False if nothing was done. Raises StoreError like `commit`.
        """

    async def new_incarnation(self) -> int:
        """Draw an incarnation, store and return it."""

    async def load(self, origin: int, after: int, upto: int) -> Range:
        """The records of an origin in (after, upto]: at most PAGE_MESSAGES, about LOAD_BYTES, and at least one.

        The range ends at its last record if it was cut short, else at `upto`. A missing sequence was removed by
        retention, or because another message owns its key.
        """

    async def find_key(self, key: str) -> Claim | None:
        """The claim of an idempotency key, or None if there is none in the last KEY_S seconds."""

    async def read(self, after: str, limit: int, *, before: str = "", newest_first: bool = False) -> list[Entry]:
        """The first `limit` messages with an id above `after` and below `before` ("": no bound), in id order.

        Fewer if there are no more. With `newest_first`: the last `limit` messages, in descending order.
        """

    async def between(self, after: str, until: str) -> list[Entry]:
        """The first messages with an id in (after, until], in id order: about PAGE_BYTES, at most PAGE_MESSAGES."""

    async def arrivals(self, after: int, upto: int) -> list[Arrival]:
        """The first messages with an arrival number in (after, upto]: about PAGE_BYTES, at most PAGE_MESSAGES.

        Numbers may be missing, and are never reused. The node that accepted a message is known if it was in an
        in-sync set that was committed here.
        """

    def last_arrival(self) -> int:
        """The arrival number of the last message that was committed."""

    async def hours(self, from_hour: int, until: str) -> dict[int, HourDigest]:
        """The digest of each hour from `from_hour` to the id `until`.

        Hours that retention has reached are left out, because journals remove messages at different times.
        """

    async def repair(self, entries: Sequence[Entry]) -> int:
        """Store messages that this journal lacks, unless they were removed here; the number that were stored."""

    async def expire(self, until: str) -> int:
        """Remove every message up to the id `until`; the number that were removed."""

    async def size(self) -> Size:
        """The size of the journal."""


def decide(known: Claim | None, claim: Claim) -> tuple[Claim, str]:
    """Decide between two claims of one key: the claim that stays, and the id of the message to remove ("" for none).

    The result does not depend on the order in which a replica receives them, unless the texts differ: then both
    messages stay.
    """
    if known is None:
        return claim, ""
    if known.message_id == claim.message_id:
        return max(known, claim, key=lambda one: one.term), ""
    if known.yields_to(claim):
        return claim, known.message_id
    return known, claim.message_id if claim.yields_to(known) else ""


def digest(text: str) -> str:
    """SHA-256 of a text, by which two requests with one idempotency key are compared."""
    return hashlib.sha256(text.encode()).hexdigest()
