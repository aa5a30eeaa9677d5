"""What a journal does, on any medium. `sqlite` is the real one, `memory` its twin; one contract suite tests both."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from common.protocol.messages import Entry
from common.protocol.replication import HourDigest, InSyncSet
from nodes.replication.core.effects import Opened, Range

ABOVE_ALL = "g"  # no id begins with it: they are hexadecimal
KEY_S = 86_400  # for which an idempotency key is remembered: a day, as long as clients are likely to try again
LOAD_BYTES = 524_288  # of text in one `load`: half of what a frame may have, because the last text may be long


class Claim(NamedTuple):
    """The id and the digest of the text with which an idempotency key came first, and the term of that decision."""

    message_id: str
    digest: str
    term: int = 0

    def yields_to(self, other: "Claim") -> bool:
        """True if the other one, for a message with the same text, takes the place of this one."""
        return self.digest == other.digest and (-self.term, self.message_id) > (-other.term, other.message_id)


class Arrival(NamedTuple):
    """A message with its number in the order in which this journal got it, and the node that accepted it, if known."""

    number: int
    entry: Entry
    node: str


class Size(NamedTuple):
    """How much a journal holds, and when it was flushed last (ms since 1970; 0: not by this process)."""

    messages: int
    bytes: int
    flushed_ms: int


def _nobody(_seconds: float) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Observers:
    """Functions that a journal calls from the thread that writes; each must be quick.

    Attributes:
        committed: a transaction, with its flush to the disk, took so many seconds.
    """

    committed: Callable[[float], object] = _nobody


NOBODY = Observers()


class Journal(Protocol):
    """Keeps records by origin and sequence, and messages by id.

    Each step raises StoreError when it failed: it may be tried again, unless `broken` is set.

    Attributes:
        opened: what it held when it was opened, with the new incarnation.
        name: a uuid of this journal; a copy that another node opens gets another one.
        broken: set when nothing that it says can be relied on any more, for the reason `why`.
    """

    opened: Opened
    name: str
    broken: asyncio.Event
    why: str

    async def commit(self, ranges: Sequence[Range], in_sync: InSyncSet | None) -> None:
        """Store the ranges, the vector that follows from them and the in-sync set, all or nothing, flushed.

        A message whose id is there already stays as it is; its record is kept as an alias. Records up to the vector
        are there already, and are ignored. Records that retention would have removed are not stored; the vector
        counts them. Of two messages with one key and text, the one that yields to the other is removed for good.
        """

    def commit_now(self, ranges: Sequence[Range], in_sync: InSyncSet | None) -> bool:
        """Commit before this returns, if that takes less than to hand it to another thread and back.

        True if it was committed, False if nothing was done; raises StoreError as `commit` does.
        """

    async def new_incarnation(self) -> int:
        """Draw an incarnation and store it."""

    async def load(self, origin: int, after: int, upto: int) -> Range:
        """The records of an origin in (after, upto], at most PAGE_MESSAGES, about LOAD_BYTES, and at least one.

        The range ends with its last record when it was cut short, else at `upto`. A number that is missing was
        removed by retention, or by a message with the same key.
        """

    async def find_key(self, key: str) -> Claim | None:
        """What an idempotency key of the last KEY_S seconds belongs to."""

    async def read(self, after: str, limit: int, *, before: str = "", newest_first: bool = False) -> list[Entry]:
        """The first `limit` messages with an id above `after` and below `before` ("": no bound), in id order.

        Fewer if there are no more. With `newest_first` the last ones, from the newest on.
        """

    async def between(self, after: str, until: str) -> list[Entry]:
        """The first messages with an id in (after, until], in id order, about PAGE_BYTES and at most PAGE_MESSAGES."""

    async def arrivals(self, after: int, upto: int) -> list[Arrival]:
        """What this journal got after one number, up to another one; about PAGE_BYTES and at most PAGE_MESSAGES.

        Numbers may be left out, and are never used again. The node that accepted a message is known when it was in
        an in-sync set that was committed here.
        """

    def last_arrival(self) -> int:
        """The number of the last message that was committed."""

    async def hours(self, from_hour: int, until: str) -> dict[int, HourDigest]:
        """What is there of each hour, from that one to the id `until`.

        Hours that retention has reached are left out: journals remove at different times.
        """

    async def repair(self, entries: Sequence[Entry]) -> int:
        """Store messages that another journal has and this one lacks, unless they were removed here; how many."""

    async def expire(self, until: str) -> int:
        """Remove every message up to the id `until`; how many that were."""

    async def size(self) -> Size:
        """How much there is."""


def decide(known: Claim | None, claim: Claim) -> tuple[Claim, str]:
    """Which of two claims of one key stays, and the id of the message that goes for it ("" for none).

    The order in which replicas get them makes no difference, unless the texts differ: then both messages stay.
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
