"""The logging node: stores and reads messages, and reports its status."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import structlog
from msgspec import structs

from common import ids
from common.errors import InvalidMessageError, StoreError
from common.protocol.admin import Inspect, Report, report
from common.protocol.codec import Reply, Request
from common.protocol.content import Entry, check_fields
from common.protocol.messages import (
    REASON_CHARACTERS,
    TAIL_S,
    Append,
    Appended,
    Code,
    Failure,
    Ping,
    Read,
    State,
    Status,
    Tail,
)
from common.protocol.replication import Digest, ListEntries, Verify
from common.protocol.vectors import VectorEntry
from common.rpc.server import IN_FLIGHT
from common.telemetry import logs, tracing
from common.telemetry.request_context import RequestContext
from nodes import append_replies
from nodes.hazelcast.map import Projection
from nodes.reader import Reader, ms_since
from nodes.replication.anti_entropy import AntiEntropy
from nodes.replication.core.effects import FinishAppend
from nodes.replication.core.state import Phase
from nodes.replication.runtime import Replicator
from nodes.storage.protocol import Journal

log = structlog.get_logger()

STEP_S = 0.9  # limit of one request; below the facade's attempt timeout (1 s), so that the reply says what was slow
# Limit of appends and reads in flight, including those that peers forward. The rest of IN_FLIGHT is for replication,
# because a node that a flood of clients keeps from answering its peers is fenced.
CLIENT_REQUESTS = IN_FLIGHT * 3 // 4
LOGGED_CHARACTERS = 200  # logged characters of each text: enough to recognise it


class LoggingNode:
    """Stores and reads messages; while it is not in sync, it refuses appends and reads with STARTING.

    Args:
        address: host:port of this node, included in replies and log lines.
        engine: "hazelcast" or "embedded".
        journal: the journal of this node.
        replicator: replicates the journal.
        anti_entropy: compares the journal with the journals of other replicas.
        now_ms: returns milliseconds since 1970.
    """

    def __init__(
        self,
        address: str,
        engine: str,
        journal: Journal,
        replicator: Replicator,
        anti_entropy: AntiEntropy,
        *,
        now_ms: Callable[[], int] = ids.now_ms,
    ) -> None:
        self._address = address
        self._engine = engine
        self._journal = journal
        self._replicator = replicator
        self._anti_entropy = anti_entropy
        self._reader = Reader(address, journal, replicator)
        self._now_ms = now_ms
        self._opening: State | None = State.STARTING
        self._leaving = False
        self._changed: tuple[State, int] = (State.STARTING, now_ms())
        self._served = self._failed = self._serving = 0
        self._projection: Projection | None = None
        self._own_member = ""

    def forming(self) -> None:
        """Change to the state FORMING: the Hazelcast member runs, and its cluster is not complete yet."""
        self._opening = State.FORMING

    def recent(self, minutes: float, messages: int) -> AsyncIterator[Entry]:
        """The messages of the last minutes, at most `messages` of them, in descending order."""
        return self._reader.recent(ids.last_id(max(self._now_ms() - int(60_000 * minutes), 0)), messages)

    def project_to(self, projection: Projection, *, own_member: str) -> None:
        """Write messages to the Hazelcast map, too; `own_member` (host:port) is this node's member."""
        self._projection, self._own_member = projection, own_member

    def opened(self) -> None:
        """Record that the storage is open: this node serves as soon as it is in sync."""
        self._opening = None
        self._replicator.serve()

    def leave(self) -> None:
        """Refuse new appends and reads."""
        self._leaving = True

    @property
    def is_open(self) -> bool:
        """True if the storage is open."""
        return self._opening is None

    def repairs_map(self) -> bool:
        """True for the one replica that writes recent messages to the map again: the first listed one."""
        listed = self._replicator.core.in_sync.listed
        return bool(listed) and listed[0].address == self._address

    async def compare_journals(self) -> None:
        """Compare the journal with the journals of other replicas periodically, until cancelled."""
        await self._anti_entropy.run()

    def state(self) -> State:
        """The state of this node now."""
        core = self._replicator.core
        if self._leaving:
            state = State.LEAVING
        elif self._opening:
            state = self._opening
        else:
            state = State.READY if core.phase is Phase.READY else State.JOINING
        if state is not self._changed[0]:
            self._changed = state, self._now_ms()
        return state

    async def handle(self, request: Request) -> Reply:
        """Answer one request; replication requests are answered by `Replicator.direct` instead.

        Raises:
            StoreError: it failed; messages of an append may be stored.
            InvalidMessageError: it is not for a logging node.
        """
        match request:
            case Inspect():
                return await self.report()
            case Ping():
                members = self._projection.member_count() if self._projection else 0
                return Status(service="logging-service", state=self.state(), members=members)
            case Digest() | ListEntries() | Verify():
                return await self._anti_entropy.handle(request)
            case Append() | Read() | Tail():
                return await self._serve(request)
            case _:
                raise InvalidMessageError(f"a logging node does not answer {type(request).__name__}")

    async def _serve(self, request: Append | Read | Tail) -> Reply:
        if (state := self.state()) is not State.READY:
            return Failure(code=Code.STARTING, reason=f"logging node {self._address} is {state}")
        if self._serving >= CLIENT_REQUESTS:
            reason = f"{CLIENT_REQUESTS} requests of clients are in flight at {self._address}"
            return Failure(code=Code.OVERLOADED, reason=reason)
        self._serving += 1
        try:
            return await self._serve_in_time(request)
        finally:
            self._serving -= 1

    async def _serve_in_time(self, request: Append | Read | Tail) -> Reply:
        step_s = TAIL_S + STEP_S if isinstance(request, Tail) else STEP_S
        try:
            async with asyncio.timeout(step_s):
                reply = await self._answer(request)
        except TimeoutError as error:
            self._failed += 1
            raise StoreError(f"{type(request).__name__.lower()} took over {step_s} s") from error
        except StoreError:
            self._failed += 1
            raise
        self._served += not isinstance(request, Tail)  # a follower repeats Tail, so counting it says nothing about load
        return reply

    async def _answer(self, request: Append | Read | Tail) -> Reply:
        match request:
            case Append():
                return await self._append(request)
            case Read():
                return await self._reader.read(request)
            case Tail():
                return await self._reader.tail(request)

    # Appends

    async def _append(self, request: Append) -> Reply:
        began_s = time.perf_counter()
        for entry in request.entries:
            if entry.fields:
                check_fields(entry.fields)
        if ahead := append_replies.ahead(request.entries, self._now_ms(), self._address):
            return ahead
        floor = self._journal.floor()
        kept = [place for place, entry in enumerate(request.entries) if entry.id > floor]
        if len(kept) == len(request.entries):
            reply = await self._append_kept(request)
        else:
            reply = await self._append_kept(append_replies.only(request, kept))
            if isinstance(reply, Appended):
                reply = append_replies.with_expired(reply, request.entries, kept)
        return structs.replace(reply, took_ms=ms_since(began_s)) if isinstance(reply, Appended) else reply

    async def _append_kept(self, request: Append) -> Reply:
        """Append messages that retention would not remove at once."""
        if not request.entries:
            return Appended(node=self._address)
        if any(entry.key for entry in request.entries):
            return await self._store_keyed(request)
        finish = await self._store(request.entries)
        if failure := append_replies.not_stored([finish]):
            return failure
        self._log_stored(request.entries, request.contexts)
        return Appended(node=self._address, vector=(VectorEntry(finish.origin, finish.upto),))

    async def _store(self, entries: Sequence[Entry]) -> FinishAppend:
        """Replicate messages; they are sent to the map first, so that its members store them while the disks flush."""
        put = self._send_to_map(entries)
        finish = await self._replicator.append(entries)
        await _wait_for_map(put)
        return finish

    async def _store_keyed(self, request: Append) -> Reply:
        """Replicate messages of which some have keys, then send those to the map: their ids are known only then."""
        plain = [entry for entry in request.entries if not entry.key]
        keyed = [entry for entry in request.entries if entry.key]
        finishes = await asyncio.gather(
            *(self._replicator.append_keyed(entry, forwarded=request.forwarded) for entry in keyed),
            *([self._store(plain)] if plain else []),
        )
        if failure := append_replies.not_stored(finishes):
            return failure
        appended, stored = append_replies.by_keys(self._address, request.entries, finishes)
        if not request.forwarded:
            await _wait_for_map(self._send_to_map([entry for entry in stored if entry.key]))
        self._log_stored(stored, ())
        return appended

    def _send_to_map(self, entries: Sequence[Entry]) -> "asyncio.Future[Any] | None":
        return self._projection.send(entries, self._now_ms()) if self._projection else None

    def _log_stored(self, entries: Sequence[Entry], contexts: Sequence[RequestContext]) -> None:
        """Log each message; for several without request contexts, such as an import, log only their number."""
        if contexts or len(entries) == 1:
            more = [context.fields() for context in contexts] or [{}]
            with logs.in_one_write():
                for entry, context in zip(entries, more, strict=True):
                    text = entry.msg[:LOGGED_CHARACTERS]
                    log.info("stored", id=entry.id, node=self._address, msg=text, **context)
        elif entries:
            log.info("stored", messages=len(entries), node=self._address, first=entries[0].id)

    # Status

    async def report(self) -> Report:
        """The status report of this node."""
        core, size = self._replicator.core, await self._journal.size()
        state = self.state()
        return report(
            "logging-service",
            state,
            since_ms=self._changed[1],
            served=self._served,
            failed=self._failed,
            engine=self._engine,
            own_member=self._own_member,
            members=self._projection.members() if self._projection else (),
            entries=await self._projection.entries() if self._projection else -1,
            messages=size.messages,
            journal_bytes=size.bytes,
            synced_ms=size.flushed_ms,
            term=core.in_sync.term,
            in_sync=tuple(one.address for one in core.in_sync.listed) if state is State.READY else (),
            unconfirmed=core.replica.unconfirmed(),
            reason=self._reason(state),
        )

    def _reason(self, state: State) -> str:
        core = self._replicator.core
        if state is State.JOINING and not core.replica.read_only:
            return core.why_joining()[:REASON_CHARACTERS]
        return core.why_not_written()[:REASON_CHARACTERS] if state is not State.LEAVING else ""


async def _wait_for_map(put: "asyncio.Future[Any] | None") -> None:
    """Wait until a put has ended, even with an error: the map never makes an append fail."""
    if put:
        with tracing.client_span("wait for the map", "hazelcast"):
            await asyncio.wait([put])
