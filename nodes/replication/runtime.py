"""Runs the replication core in the event loop of a node: executes its effects on peers, registries and journal."""

import asyncio
import contextlib
import contextvars
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, cast, get_args

import structlog

from common.protocol.codec import Reply, Request
from common.protocol.content import Entry
from common.protocol.replication import InSyncSet
from common.rpc.handler import DirectHandler
from common.rpc.pipelined import PipelinedTransport
from common.telemetry import request_context
from nodes.replication.core.claims import KeyedAppend
from nodes.replication.core.effects import (
    AnswerPeer,
    AskRegistries,
    Commit,
    Effect,
    FindKey,
    FinishAppend,
    Forward,
    LoadRecords,
    NewIncarnation,
    Send,
)
from nodes.replication.core.machine import Core, PeerRequest
from nodes.replication.core.state import Phase, Versions
from nodes.replication.disk import Disk
from nodes.replication.links import Links
from nodes.replication.registries import Registries
from nodes.replication.ticker import Ticker
from nodes.replication.waiting import Waiters
from nodes.storage.protocol import Journal, digest

log = structlog.get_logger()


class Replicator:
    """One replica: the core with its runtime.

    Args:
        core: the state machine.
        journal: stores the records.
        transport: sends requests to peers and registries.
        registries: host:port of each registry.

    Attributes:
        core: the state machine.
        waiters: coroutines that wait for a condition on the core.
    """

    def __init__(
        self,
        core: Core,
        journal: Journal,
        transport: PipelinedTransport,
        registries: Sequence[str],
    ) -> None:
        self.core = core
        settings = core.replica.settings
        self._ticker = Ticker(core, settings.standstill_s, self._wake, self._end_node)
        self._transport = transport
        self._registries = Registries(transport, registries, core.replica.renewal, settings.registry_s)
        self._links = Links(core, transport, self._wake, self._start)
        self._disk = Disk(core, journal, self._start)
        self._loop = asyncio.get_running_loop()
        self._next_token = itertools.count(1).__next__
        self._answers: dict[int, Callable[[Reply], None]] = {}
        self._finishes: dict[int, asyncio.Future[FinishAppend]] = {}
        self._keyed: dict[int, tuple[KeyedAppend, request_context.RequestContext | None]] = {}
        self.waiters = Waiters()
        self._tasks: set[asyncio.Task[None]] = set()
        self._woken = self._stopped = False
        self._due: asyncio.TimerHandle | None = None
        self._seen: tuple[Phase, InSyncSet, str] | None = None

    # Requests

    @property
    def direct(self) -> DirectHandler:
        """The handler of the requests of peers."""
        return DirectHandler(get_args(PeerRequest), self._request)

    def _request(self, request: Request, reply: Callable[[Reply], None]) -> None:
        token = self._next_token()
        self._answers[token] = reply
        try:
            self.core.request(token, cast(PeerRequest, request), self._loop.time())
        except Exception as error:
            self._end_node(error)
        self._wake()

    async def append(self, entries: Sequence[Entry]) -> FinishAppend:
        """Append messages without keys; return when all in-sync disks have them, or never will."""
        return await self._finished(lambda token: self.core.append(token, entries, self._loop.time()))

    async def append_keyed(self, entry: Entry, *, forwarded: bool) -> FinishAppend:
        """Append a message with an idempotency key; return when it is stored, or cannot be.

        `forwarded` is true if another replica forwarded it to this one, as the owner of the key.
        """

        def begin(token: int) -> None:
            append = KeyedAppend(token, entry, digest(entry), forwarded)
            self._keyed[token] = append, request_context.current()
            self.core.append_keyed(append, self._loop.time())

        return await self._finished(begin)

    async def _finished(self, begin: Callable[[int], None]) -> FinishAppend:
        token = self._next_token()
        finish: asyncio.Future[FinishAppend] = self._loop.create_future()
        self._finishes[token] = finish
        begin(token)
        self._wake()
        try:
            return await finish
        finally:
            self._finishes.pop(token, None)
            self._keyed.pop(token, None)

    async def may_be_shown(self, versions: Versions) -> None:
        """Return when all records that a vector covers may be shown to readers, or this replica was fenced."""
        await self.waiters.until(lambda: self._may_show_or_ask(versions))

    def _may_show_or_ask(self, versions: Versions) -> bool:
        """True if these versions may be shown; if not, ask the members, once for each record."""
        if self.core.may_show(versions):
            return True
        if self.core.ask_whether_confirmed(versions, self._loop.time()):
            self._wake()
        return False

    # Life

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Replicate while the block runs."""
        self._ticker.start()
        try:
            yield
        finally:
            self._stopped = True
            self._ticker.stop()
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if self._due:
                self._due.cancel()

    def serve(self) -> None:
        """Let this replica be listed: the storage of this node is open."""
        self.core.serve(self._loop.time())
        self._wake()

    async def leave(self, *, timeout_s: float) -> None:
        """Leave the in-sync set when all accepted records are acknowledged; give up after `timeout_s`."""
        self.core.leave(self._loop.time())
        self._wake()
        try:
            async with asyncio.timeout(timeout_s):
                await self.waiters.until(lambda: self.core.left)
        except TimeoutError:
            log.warning("the in-sync set was not left in time: the others will fence this replica", seconds=timeout_s)

    # Effects

    def _wake(self) -> None:
        """Schedule the core's effects for the end of this turn of the loop, so that events of one turn form a batch."""
        if not self._woken:
            self._woken = True
            self._loop.call_soon(self._run, context=contextvars.Context())

    def _run(self) -> None:
        if self._stopped:
            return
        self._woken = False
        try:
            for effect in self.core.take(self._loop.time()):
                self._execute(effect)
            self.waiters.check()
        except Exception as error:
            self._end_node(error)
        self._schedule()
        self._ticker.hasten()
        seen = (self.core.phase, self.core.in_sync, self.core.replica.read_only)
        if seen != self._seen:
            self._seen = seen
            self._log_change()

    def _commit(self, effect: Commit) -> None:
        if self._stopped:
            return
        try:
            if self._disk.commit(effect):
                self._run()
        except Exception as error:
            self._end_node(error)

    def _schedule(self) -> None:
        if self._due:
            self._due.cancel()
        self._due = None
        if (due_s := self.core.due_s()) is not None:
            self._due = self._loop.call_at(due_s, self._wake)

    def _log_change(self) -> None:
        core = self.core
        log.info(
            "in-sync set",
            phase=core.phase.value,
            term=core.in_sync.term,
            listed=[one.address for one in core.in_sync.listed],
            joining=[one.address for one in core.in_sync.members if not one.listed],
            read_only=core.replica.read_only,
        )

    def _execute(self, effect: Effect) -> None:
        match effect:
            case Send():
                self._links.send(effect)
            case AnswerPeer(token=token, message=message):
                self._answers.pop(token)(message)  # type: ignore[call-overload]
            case Commit():  # in the next turn: messages of this turn are sent first, so peers work during the flush
                self._loop.call_soon(self._commit, effect)
            case LoadRecords():
                self._start(self._disk.load(effect))
            case FindKey(key=key):
                self._start(self._disk.find_key(key))
            case Forward(token=token, owner=owner):
                self._start(self._forward(token, owner))  # type: ignore[arg-type]
            case AskRegistries():
                self._start(self._ask(effect))
            case NewIncarnation():
                self._start(self._disk.begin_incarnation())
            case FinishAppend(token=token):
                _resolve(self._finishes.get(token), effect)  # type: ignore[call-overload]

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _end_node(self, error: Exception) -> None:
        """End the node after an internal error: the core's state cannot be trusted, and other replicas continue."""
        log.error("unexpected exception in replication", exc_info=error)
        self._disk.give_up(f"replication broke: {error!r}")

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._end_node(error)
        self._wake()

    async def _forward(self, token: int, owner: str) -> None:
        finish = self._finishes.get(token)
        if finish and token in self._keyed:
            append, context = self._keyed.pop(token)
            _resolve(finish, await self._links.forward(append, token, owner, context))

    # Registries

    async def _ask(self, effect: AskRegistries) -> None:
        reply, others = await self._registries.ask(effect.message)
        renewed_s = self._registries.renewed_s
        self.core.registry_answered(effect.message, reply, self._loop.time(), renewed_s=renewed_s, others=others)


def _resolve(waiting: "asyncio.Future[Any] | None", result: object) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(result)
