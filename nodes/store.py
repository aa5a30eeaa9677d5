"""What keeps the messages of a logging node: the protocol, and its in-memory twin."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from common.wire import Entry

KEY_S = 86_400  # that an idempotency key is remembered: a day, as long as clients are likely to try again


class Claim(NamedTuple):
    """The id and the digest of the text with which an idempotency key came first."""

    message_id: str
    digest: str


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

    async def read(self, after: str, limit: int) -> list[Entry]:
        """The first `limit` messages with an id above `after` ("": all), in id order; fewer if there are no more."""

    async def expire(self, until: str) -> int:
        """Remove everything up to the id `until`; how many messages that were, as far as it is known."""

    def view(self) -> tuple[str, ...]:
        """The members of the cluster (their uuids) that are seen now; none where there is no cluster."""


def digest(text: str) -> str:
    """SHA-256 of a text, by which two requests with one idempotency key are compared."""
    return hashlib.sha256(text.encode()).hexdigest()


class MemoryStore:
    """Keeps messages in a dictionary: for tests of what stands on a store."""

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

    async def read(self, after: str, limit: int) -> list[Entry]:
        """See Store."""
        return [Entry(key, self._texts[key]) for key in sorted(self._texts) if key > after][:limit]

    async def expire(self, until: str) -> int:
        """See Store."""
        old = [message_id for message_id in self._texts if message_id <= until]
        for message_id in old:
            del self._texts[message_id]
        return len(old)

    def view(self) -> tuple[str, ...]:
        """See Store."""
        return ()
