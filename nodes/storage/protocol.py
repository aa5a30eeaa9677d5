"""The interface of a journal. `sqlite` is the real one, `memory` its twin; one contract suite tests both."""

import asyncio
import hashlib
import zlib
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from common.ids import time_ms
from common.protocol.content import Content, Entry
from common.protocol.replication import HourDigest, InSyncSet
from common.protocol.search import Search, fields_of
from nodes.replication.core.effects import Opened, Range

ABOVE_ALL = "g"  # greater than every id, because ids are hexadecimal
KEY_S = 86_400  # lifetime of an idempotency key: a day, as long as clients are likely to retry
LOAD_BYTES = 524_288  # of texts and fields in one `load`: half of what a frame may hold, because the last may be long
HOUR_MS = 3_600_000  # journals are compared by digests of hours
SCAN_S = 0.25  # for one search: three that wait for each other end within the 0.9 s that a node has for a request


class Claim(NamedTuple):
    """The message that owns an idempotency key: its id, its digest, and the term of that decision."""

    message_id: str
    digest: str
    term: int = 0

    def yields_to(self, other: "Claim") -> bool:
        """True if the other claim replaces this one: the same content, and a higher term or then a lower id."""
        return self.digest == other.digest and (-self.term, self.message_id) > (-other.term, other.message_id)


class Arrival(NamedTuple):
    """A message, and its number in order of arrival at this journal."""

    number: int
    entry: Entry


class Matches(NamedTuple):
    """The messages that a search found, and the cursor at which to go on; None if it has seen everything."""

    entries: list[Entry]
    next: str | None


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

        A message whose id is already stored keeps its content; its new record is stored as an alias. Records up to the
        vector are already stored and are ignored. Records that retention would have removed are not stored, but the
        vector includes them. Of two messages with one key and one content, the one that yields is removed permanently.
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

        Fewer if there are no more. With `newest_first`: the last `limit` messages, in descending order. The node that
        accepted a message is known if it was in an in-sync set that was committed here, and the message was not stored
        by `repair`.
        """

    async def search(
        self, wanted: Search, after: str, limit: int, *, before: str = "", newest_first: bool = False
    ) -> Matches:
        """The first messages of `read` that a search finds: at most `limit`, about PAGE_BYTES.

        It also ends SCAN_S after its begin, with what it has found until then.
        """

    async def between(self, after: str, until: str) -> list[Entry]:
        """The first messages with an id in (after, until], in id order: about PAGE_BYTES, at most PAGE_MESSAGES."""

    async def arrivals(self, after: int, upto: int) -> list[Arrival]:
        """The first messages with an arrival number in (after, upto]: about PAGE_BYTES, at most PAGE_MESSAGES.

        Numbers may be missing, and are never reused.
        """

    def last_arrival(self) -> int:
        """The arrival number of the last message that was committed."""

    def floor(self) -> str:
        """The highest id that retention has removed; messages up to it are not stored. "" if there is none."""

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

    The result does not depend on the order in which a replica receives them, unless the contents differ: then both
    messages stay.
    """
    if known is None:
        return claim, ""
    if known.message_id == claim.message_id:
        return max(known, claim, key=lambda one: one.term), ""
    if known.yields_to(claim):
        return claim, known.message_id
    return known, claim.message_id if claim.yields_to(known) else ""


def digest(content: Content) -> str:
    """SHA-256 of the text and the fields of a message, by which two messages with one idempotency key are compared.

    The order of the fields does not matter.
    """
    text = content.msg
    if content.fields:
        fields = fields_of(content.fields)
        text = f"{len(text)} {text}{[(name, fields[name]) for name in sorted(fields)] or content.fields}"
    return hashlib.sha256(text.encode()).hexdigest()


def hour_of(message_id: str) -> int:
    """The hour in which an id was made, counted from 1970."""
    return time_ms(message_id) // HOUR_MS


def checksum(message_id: str, text: str, fields: str = "") -> int:
    """CRC-32 of a message."""
    return zlib.crc32((f"{message_id} {text} {fields}" if fields else f"{message_id} {text}").encode())
