"""What keeps the messages of a logging node: the protocol, and its in-memory twin."""

from typing import Protocol

from common.wire import Entry


class Store(Protocol):
    """Keeps messages by id. Every step is idempotent and bounded in time; it raises StoreError when it failed.

    `nodes.grid.HazelcastStore` and `nodes.journal.Journal` are the real ones; tests/test_store.py holds all to this.
    """

    async def append(self, message_id: str, text: str) -> None:
        """Return when the message is stored as safely as this store can. An id that is there already stays as it is."""

    async def read(self, after: str, limit: int) -> list[Entry]:
        """The first `limit` messages with an id above `after` ("": all), in id order; fewer if there are no more."""

    def members(self) -> int:
        """How many members of the cluster are seen now; 0 where there is no cluster."""


class MemoryStore:
    """Keeps messages in a dictionary: for tests of what stands on a store."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    async def append(self, message_id: str, text: str) -> None:
        """See Store."""
        self._texts.setdefault(message_id, text)

    async def read(self, after: str, limit: int) -> list[Entry]:
        """See Store."""
        return [Entry(key, self._texts[key]) for key in sorted(self._texts) if key > after][:limit]

    def members(self) -> int:
        """See Store."""
        return 0
