"""What keeps the messages of a logging node: the protocol, and its in-memory twin."""

from typing import NamedTuple, Protocol

from common.wire import Entry

KEY_S = 86_400  # that an idempotency key is remembered: a day, as long as clients are likely to try again


class Claim(NamedTuple):
    """The id and the digest of the text with which an idempotency key came first."""

    message_id: str
    digest: str


class Store(Protocol):
    """Keeps messages by id. Every step is idempotent and bounded in time; it raises StoreError when it failed.

    `nodes.grid.HazelcastStore` and `nodes.journal.Journal` are the real ones; tests/test_store.py holds all to this.
    """

    async def append(self, message_id: str, text: str) -> None:
        """Return when the message is stored as safely as this store can. An id that is there already stays as it is."""

    async def claim(self, key: str, message_id: str, digest: str) -> Claim:
        """What belongs to an idempotency key: what is given, if the key is new or older than KEY_S, else the first."""

    async def read(self, after: str, limit: int) -> list[Entry]:
        """The first `limit` messages with an id above `after` ("": all), in id order; fewer if there are no more."""

    def view(self) -> tuple[str, ...]:
        """The members of the cluster (their uuids) that are seen now; none where there is no cluster."""


class MemoryStore:
    """Keeps messages in a dictionary: for tests of what stands on a store."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._claims: dict[str, Claim] = {}

    async def append(self, message_id: str, text: str) -> None:
        """See Store."""
        self._texts.setdefault(message_id, text)

    async def claim(self, key: str, message_id: str, digest: str) -> Claim:
        """See Store; remembers for ever."""
        return self._claims.setdefault(key, Claim(message_id, digest))

    async def read(self, after: str, limit: int) -> list[Entry]:
        """See Store."""
        return [Entry(key, self._texts[key]) for key in sorted(self._texts) if key > after][:limit]

    def view(self) -> tuple[str, ...]:
        """See Store."""
        return ()
