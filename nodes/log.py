"""What a logging node answers: pure, the store is given to it when it is ready."""

import logging
from collections.abc import Iterable

from common.errors import InvalidMessageError
from common.wire import (
    PAGE_BYTES,
    Append,
    Code,
    Entry,
    Failure,
    Page,
    Ping,
    Read,
    Reply,
    Request,
    State,
    Status,
    Stored,
    text_bytes,
)
from nodes.store import Store

log = logging.getLogger(__name__)

LOGGED_CHARACTERS = 200  # of a text in the node's own log: enough to recognise it


class LoggingNode:
    """Stores and reads messages; until `open` it answers STARTING and tells by Ping how far it is.

    Args:
        address: host:port of this node, told in replies and in each log line.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._store: Store | None = None
        self._state = State.STARTING

    def forming(self) -> None:
        """The member of this node runs; the cluster is not complete yet."""
        self._state = State.FORMING

    def open(self, store: Store) -> None:
        """From now on requests are answered from `store`."""
        self._store = store
        self._state = State.READY

    async def handle(self, request: Request) -> Reply:
        """Answer one request; raises StoreError, and InvalidMessageError for one that is not for a logging node."""
        if isinstance(request, Ping):
            members = self._store.members() if self._store else 0
            return Status(service="logging-service", state=self._state, members=members)
        if self._store is None:
            return Failure(code=Code.STARTING, reason=f"logging node {self._address} is {self._state}")
        match request:
            case Append(id=message_id, msg=text):
                return await self._append(self._store, message_id, text)
            case Read(after=after, limit=limit):
                entries = await self._store.read(after, limit)
                return page(entries, limit=limit, node=self._address)
            case _:
                raise InvalidMessageError(f"a logging node does not answer {type(request).__name__}")

    async def _append(self, store: Store, message_id: str, text: str) -> Stored:
        await store.append(message_id, text)
        log.info("stored id=%s node=%s msg=%r", message_id, self._address, text[:LOGGED_CHARACTERS])
        return Stored(id=message_id, node=self._address)


def page(found: Iterable[Entry], *, limit: int, node: str) -> Page:
    """The page of what was found: cut after the message that reaches PAGE_BYTES; a full page may have a successor."""
    entries: list[Entry] = []
    room_bytes = PAGE_BYTES
    for entry in found:
        entries.append(entry)
        room_bytes -= text_bytes(entry.msg)
        if room_bytes <= 0 or len(entries) == limit:
            return Page(entries=tuple(entries), next=entry.id, node=node)
    return Page(entries=tuple(entries), next=None, node=node)
