"""What a logging node answers: pure, the store is given to it when it is ready."""

import asyncio
import time
from dataclasses import asdict

import structlog

from common import ids
from common.codec import Reply, Request
from common.errors import InvalidMessageError, StoreError
from common.inspection import Inspect, Report, report
from common.replication import Copy, Digest, Fetch, Sync, Verify
from common.wire import (
    PAGE_BYTES,
    Append,
    AppendAll,
    Code,
    Entry,
    Failure,
    Page,
    Ping,
    Read,
    State,
    Status,
    Stored,
    StoredAll,
    Tail,
    Tailed,
    text_bytes,
)
from nodes.audit import Audit
from nodes.peers import Peers
from nodes.store import Log, Store, digest
from nodes.tables import FROM_MAP

log = structlog.get_logger()

STEP_S = 0.9  # for all that a request needs; below the facade's attempt timeout (1 s), so that the node says why
FIRST_CHUNK = 128  # messages: 8 MiB when all are as large as they may be
LOGGED_CHARACTERS = 200  # of a text in the node's own log: enough to recognise it


class LoggingNode:
    """Stores and reads messages; until `open` it answers STARTING and tells by Ping how far it is.

    Args:
        address: host:port of this node, told in replies and in each log line.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._store: Log | None = None
        self._peers: Peers | None = None
        self._audit: Audit | None = None
        self._state = State.STARTING
        self._changed: tuple[State, int] = (State.STARTING, ids.now_ms())
        self._served = self._failed = 0
        self.own_member = ""  # host:port of the Hazelcast member that belongs to it

    def meet(self, peers: Peers, audit: Audit) -> None:
        """From now on other nodes are answered, too: they may need what this one has before it can serve."""
        self._peers = peers
        self._audit = audit

    def forming(self) -> None:
        """The member of this node runs; the cluster is not complete yet."""
        self._state = State.FORMING

    def open(self, store: Log) -> None:
        """From now on requests are answered from `store`."""
        self._store = store
        self._state = State.READY

    def leave(self) -> None:
        """From now on only other nodes are answered: what this one has taken is finished, nothing new is begun."""
        self._state = State.LEAVING

    @property
    def ready(self) -> bool:
        """Whether it answers from a store."""
        return self._store is not None

    async def handle(self, request: Request) -> Reply:
        """Answer one request; raises StoreError, and InvalidMessageError for one that is not for a logging node."""
        state = self._state_now()
        if isinstance(request, Inspect):
            return await self.report()
        if isinstance(request, Ping):
            members = len(self._store.view()) if self._store else 0
            return Status(service="logging-service", state=state, members=members)
        if self._peers and isinstance(request, Fetch | Sync):
            return await self._peers.handle(request)
        if self._audit and isinstance(request, Digest | Copy | Verify):
            return await self._audit.handle(request)
        if self._store is None or state is not State.READY:
            return Failure(code=Code.STARTING, reason=f"logging node {self._address} is {state}")
        try:
            async with asyncio.timeout(STEP_S):
                reply = await self._serve(self._store, request)
        except TimeoutError as error:
            self._failed += 1
            raise StoreError(f"{type(request).__name__.lower()} took over {STEP_S} s") from error
        except StoreError:
            self._failed += 1
            raise
        self._served += not isinstance(request, Tail)  # which is asked again and again while somebody follows
        return reply

    async def report(self) -> Report:
        """How it is."""
        state, since_ms = self._state_now(), self._changed[1]
        figures = asdict(await self._store.figures()) if self._store else {}
        counts = {"served": self._served, "failed": self._failed, "own_member": self.own_member}
        return report("logging-service", state, since_ms=since_ms, **counts, **figures)

    def _state_now(self) -> State:
        state = State.BEHIND if self._peers and self._peers.behind() and self._store else self._state
        if state is not self._changed[0]:
            self._changed = state, ids.now_ms()
        return state

    async def _serve(self, store: Log, request: Request) -> Reply:
        match request:
            case Append():
                return await self._append(store, request)
            case AppendAll():
                return await self._append_all(store, request)
            case Read():
                return await read_page(store, request, node=self._address)
            case Tail(journal=journal, after=after):
                found = await store.tail(journal, after)
                entries = tuple(Entry(record.id, record.msg) for record in found.records)
                return Tailed(
                    journal=found.journal,
                    entries=entries,
                    next=found.next,
                    more=found.more,
                    node=self._address,
                    nodes=tuple("" if node == FROM_MAP else node or self._address for node in found.origins),
                )
            case _:
                raise InvalidMessageError(f"a logging node does not answer {type(request).__name__}")

    async def _append_all(self, store: Store, request: AppendAll) -> Reply:
        began = time.perf_counter()
        await store.append_all(request.entries)
        if request.origins:
            for (message_id, text), (request_id, traceparent) in zip(request.entries, request.origins, strict=True):
                self._log_stored(message_id, text, request_id=request_id, traceparent=traceparent)
        else:
            first = request.entries[0].id if request.entries else ""
            log.info("stored", messages=len(request.entries), node=self._address, first=first)
        return StoredAll(count=len(request.entries), node=self._address, took_ms=_ms_since(began))

    def _log_stored(self, message_id: str, text: str, **source: str) -> None:
        log.info("stored", id=message_id, node=self._address, msg=text[:LOGGED_CHARACTERS], **source)

    async def _append(self, store: Store, request: Append) -> Reply:
        began = time.perf_counter()
        message_id = await _claimed_id(store, request)
        if message_id is None:
            return Failure(code=Code.CONFLICT, reason="this idempotency key came with another text before")
        # Also for a key that is known: its first attempt may have failed between the two steps.
        await store.append(message_id, request.msg, request.key)
        self._log_stored(message_id, request.msg)
        replayed = message_id != request.id
        return Stored(id=message_id, node=self._address, replayed=replayed, took_ms=_ms_since(began))


async def _claimed_id(store: Store, request: Append) -> str | None:
    """The id to store under: the request's own, or that of its key's first request; None when the texts differ."""
    if request.key is None:
        return request.id
    text_digest = digest(request.msg)
    claim = await store.claim(request.key, request.id, text_digest)
    return claim.message_id if claim.digest == text_digest else None


async def read_page(store: Store, request: Read, *, node: str) -> Page:
    """A page of what is asked for, which ends after the message that reaches PAGE_BYTES of text.

    It is read in chunks, the later ones as large as the texts so far let expect, so that a log of large texts does not
    bring a thousand of them into memory for a page of sixteen.
    """
    began = time.perf_counter()
    entries: list[Entry] = []
    used_bytes, limit, chunk = 0, request.limit, min(request.limit, FIRST_CHUNK)
    after, before = request.after, request.before
    while True:
        found = await store.read(after, chunk, before=before, newest_first=request.newest_first)
        for entry in found:
            entries.append(entry)
            used_bytes += text_bytes(entry.msg)
            if used_bytes >= PAGE_BYTES or len(entries) == limit:
                return Page(entries=tuple(entries), next=entry.id, node=node, took_ms=_ms_since(began))
        if len(found) < chunk:
            return Page(entries=tuple(entries), next=None, node=node, took_ms=_ms_since(began))
        after, before = (after, found[-1].id) if request.newest_first else (found[-1].id, before)
        likely = (PAGE_BYTES - used_bytes) * len(entries) // max(used_bytes, 1) + 1
        chunk = min(limit - len(entries), likely)


def _ms_since(began_s: float) -> float:
    return 1_000 * (time.perf_counter() - began_s)
