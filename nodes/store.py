"""What keeps the messages of a logging node: the protocol, and its in-memory twin."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from common.inspection import Member
from common.replication import Fetched, Record
from common.wire import PAGE_MESSAGES, Entry

ABOVE_ALL = "g"  # no id begins with it: they are hexadecimal
KEY_S = 86_400  # that an idempotency key is remembered: a day, as long as clients are likely to try again


class Claim(NamedTuple):
    """The id and the digest of the text with which an idempotency key came first."""

    message_id: str
    digest: str


@dataclass(frozen=True, slots=True)
class Figures:
    """What a store tells an operator; see `common.inspection.Report`."""

    engine: str = ""
    members: tuple[Member, ...] = ()
    entries: int = -1
    messages: int = 0
    journal_bytes: int = 0
    synced_ms: int = 0


class Store(Protocol):
    """Keeps messages by id. Every step is idempotent and bounded in time; it raises StoreError when it failed.

    `nodes.grid.HazelcastStore`, `nodes.journal.Journal`, and `nodes.replicated.ReplicatedStore` of the two are the
    real ones; tests/test_store.py holds all to this.
    """

    async def append(self, message_id: str, text: str, key: str | None = None) -> None:
        """Return when the message is stored as safely as this store can. An id that is there already stays as it is.

        `key` is the idempotency key that it came with, if any.
        """

    async def append_all(self, entries: Sequence[Entry]) -> None:
        """The same for many that are stored elsewhere already."""

    async def claim(self, key: str, message_id: str, text_digest: str) -> Claim:
        """What belongs to an idempotency key: what is given, if the key is new or older than KEY_S, else the first."""

    async def read(self, after: str, limit: int, *, before: str = "", newest_first: bool = False) -> list[Entry]:
        """The first `limit` messages with an id above `after` and below `before` ("": no bound), in id order.

        Fewer if there are no more. With `newest_first` the last ones, from the newest on.
        """

    async def expire(self, until: str) -> int:
        """Remove everything up to the id `until`; how many messages that were, as far as it is known."""

    def view(self) -> tuple[str, ...]:
        """The members of the cluster (their uuids) that are seen now; none where there is no cluster."""

    async def figures(self) -> Figures:
        """What can be said of it at once."""


class Half(Store, Protocol):
    """A Store that is compared with another one."""

    async def ids(self, after: str, limit: int) -> list[str]:
        """The ids of what `read` returns: much cheaper where the texts do not matter."""


class Log(Store, Protocol):
    """A Store that also tells what it got, in the order in which it got it: what a logging node serves."""

    async def tail(self, journal: str, after: int) -> Fetched:
        """What came after the number `after`, about PAGE_BYTES of it; of another journal only where it ends now."""


def digest(text: str) -> str:
    """SHA-256 of a text, by which two requests with one idempotency key are compared."""
    return hashlib.sha256(text.encode()).hexdigest()


class MemoryStore:
    """Keeps messages in a dictionary: for tests of what stands on a store. A Half, and a Log until some expire."""

    name = "memory"

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._claims: dict[str, Claim] = {}

    async def append(self, message_id: str, text: str, key: str | None = None) -> None:
        """See Store."""
        del key
        self._texts.setdefault(message_id, text)

    async def append_all(self, entries: Sequence[Entry]) -> None:
        """See Store."""
        for entry in entries:
            await self.append(*entry)

    async def claim(self, key: str, message_id: str, text_digest: str) -> Claim:
        """See Store; remembers for ever."""
        return self._claims.setdefault(key, Claim(message_id, text_digest))

    async def read(self, after: str, limit: int, *, before: str = "", newest_first: bool = False) -> list[Entry]:
        """See Store."""
        found = [key for key in sorted(self._texts, reverse=newest_first) if after < key < (before or ABOVE_ALL)]
        return [Entry(key, self._texts[key]) for key in found[:limit]]

    async def ids(self, after: str, limit: int) -> list[str]:
        """See Half."""
        return [entry.id for entry in await self.read(after, limit)]

    async def tail(self, journal: str, after: int) -> Fetched:
        """See Log."""
        entries = list(self._texts.items())[after : after + PAGE_MESSAGES] if journal == self.name else []
        end = after + len(entries) if journal == self.name else len(self._texts)
        records = tuple(Record(*entry, None) for entry in entries)
        return Fetched(journal=self.name, records=records, next=end, more=end < len(self._texts))

    async def expire(self, until: str) -> int:
        """See Store."""
        old = [message_id for message_id in self._texts if message_id <= until]
        for message_id in old:
            del self._texts[message_id]
        return len(old)

    def view(self) -> tuple[str, ...]:
        """See Store."""
        return ()

    async def figures(self) -> Figures:
        """See Store."""
        return Figures(engine=self.name, messages=len(self._texts))
