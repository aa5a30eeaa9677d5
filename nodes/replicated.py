"""The store of a logging node: its journal and the map, as one.

A message is acknowledged when it is on this disk and in the map; when the map does not take it in time, because a
member died or hangs, then when it is on the disks of this node and of all other live ones, and the map gets it later. A
read is answered from the journal, once that has all that the peers' have, and from what is new in the map.
"""

import asyncio
import contextlib
import contextvars
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ParamSpec, TypeVar

import structlog

from common import ids, spans
from common.errors import StoreError
from common.replication import Fetched
from common.wire import Entry
from nodes.background import repeat
from nodes.comparison import copy, missing
from nodes.journal import Journal
from nodes.observers import NOBODY, Observers
from nodes.peers import Peers
from nodes.store import Claim, Figures, Half

log = structlog.get_logger()

GRACE_S = 0.1  # for the map to take a message, or to answer a read: 0.5 ms as a rule
PROBE_S = 0.1  # between two questions to a map that did not answer, and between two looks for a peer that fell silent
IN_FLIGHT_S = 15.0  # from making an id to its message being stored, at most: a facade's deadline, and clocks apart
QUIET_S = 10.0  # without a change of members: then the map has moved and merged what it had to
OLD_S = 60.0  # what is so old when it comes is an import, and not a slow post
SETTLE_S = 1.0  # between two comparisons of the journal with the map
COMPARED_IDS = 1_000  # at one go
COOL_S = 10.0  # between two removals from the map of what is on all disks


P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Hot:
    """What the map keeps of what is on all disks: no older messages than `minutes`, and no more than `messages`."""

    minutes: float = 60.0
    messages: int = 50_000


class ReplicatedStore:
    """A Store of a journal and a map.

    Args:
        journal: on this node's disk.
        grid: the map.
        peers: the other nodes.
        hot: what the map keeps; older messages are in the journals only.
        observers: told whether the map takes messages, and how fast.
        clock: seconds from any start.
        now_ms: milliseconds since 1970.
    """

    def __init__(
        self,
        journal: Journal,
        grid: Half,
        peers: Peers,
        *,
        hot: Hot = Hot(),
        observers: Observers = NOBODY,
        clock: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = ids.now_ms,
    ) -> None:
        self._journal = journal
        self._grid = grid
        self._peers = peers
        self._hot = hot
        self._observers = observers
        self._clock = clock
        self._now_ms = now_ms
        self._well = True  # the map answers
        self._settled = ""  # up to this id the map has nothing that the journal has not
        self._filled = ""  # up to this id this node has brought the map what it keeps, since the members changed
        self._rescued = 0  # silences of peers after which the map was asked for what they had left there
        self._seen: tuple[str, ...] = ()
        self._changed_s = self._cooled_s = clock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def append(self, message_id: str, text: str, key: str | None = None) -> None:
        """See Store."""
        _, in_map = await asyncio.gather(
            self._journal.append(message_id, text, key), self._in_map(self._grid.append, message_id, text)
        )
        if not in_map or self._is_late(message_id):
            await self._peers.replicate()

    async def append_all(self, entries: Sequence[Entry]) -> None:
        """See Store. What is old (an import) goes to the disks of the live nodes, and not to the map."""
        old = ids.last_id(self._now_ms() - int(1_000 * OLD_S))
        fresh = [entry for entry in entries if entry.id > old]
        _, in_map = await asyncio.gather(self._journal.append_all(entries), self._all_in_map(fresh))
        if not in_map or (entries and self._is_late(min(entry.id for entry in entries))):
            await self._peers.replicate()

    async def claim(self, key: str, message_id: str, text_digest: str) -> Claim:
        """See Store. The journals are asked first: a map that merges has forgotten keys for some seconds."""
        await self._peers.fetch()
        return await self._journal.claimed(key) or await self._grid.claim(key, message_id, text_digest)

    async def read(self, after: str, limit: int, *, before: str = "", newest_first: bool = False) -> list[Entry]:
        """See Store."""
        settled = self._settled  # as it was before the journal is read
        all_settled = before and before <= settled
        from_journal = partial(self._journal.read, after, limit, before=before, newest_first=newest_first)
        if all_settled or (after < settled and not newest_first):
            old = await from_journal()
            if all_settled or (len(old) == limit and old[-1].id <= settled):
                return old
        complete = await self._peers.fetch() and self._rescued == self._peers.silences
        old = await from_journal()
        from_map = partial(self._grid.read, max(after, settled), limit, before=before, newest_first=newest_first)
        new = await self._new_in_map(from_map, needed=not complete)
        return [Entry(*one) for one in sorted((dict(new) | dict(old)).items(), reverse=newest_first)[:limit]]

    async def tail(self, journal: str, after: int) -> Fetched:
        """See Log. What only the map has comes when it has been taken from there."""
        await self._peers.fetch()
        return await self._journal.tail(journal, after)

    async def expire(self, until: str) -> int:
        """See Store."""
        await self._grid.expire(until)
        return await self._journal.expire(until)

    def view(self) -> tuple[str, ...]:
        """See Store."""
        return self._grid.view()

    async def figures(self) -> Figures:
        """See Store."""
        journal, grid = await asyncio.gather(self._journal.figures(), self._grid.figures())
        return replace(journal, engine=grid.engine, members=grid.members, entries=grid.entries)

    async def recover(self) -> None:
        """Take what the peers and the map have, and have the peers take what is here; raises StoreError.

        The map gets what it lacks later, when this node serves already.
        """
        await self._peers.fetch()
        hot, now = await self._hot_above(), ids.last_id(self._now_ms())
        await self._compare(hot, now, fill_above=now)
        await self._peers.hand_over()
        if self._peers.whole():  # else a peer may have old messages that this node has lost
            self._settle_at(hot)

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Compare the journal with the map from time to time while the block runs."""
        self._begin(repeat(self.settle, every_s=SETTLE_S, what="comparing journal and map"))
        self._begin(repeat(self._rescue, every_s=PROBE_S, what="taking from the map what a silent peer had"))
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()

    async def settle(self) -> None:
        """Compare what is no longer in flight, when the members have not changed lately; raises StoreError."""
        now_s, now_ms = self._clock(), self._now_ms()
        if (seen := self._grid.view()) != self._seen:
            self._seen, self._changed_s, self._filled = seen, now_s, ""
        if now_s - self._changed_s < QUIET_S or not (self._well and self._peers.whole()):
            return
        until = ids.last_id(now_ms - int(1_000 * IN_FLIGHT_S))
        await self._peers.fetch()
        leads, cooling = self._peers.leads(), now_s - self._cooled_s >= COOL_S
        hot = await self._hot_above() if leads or cooling else until  # it counts 50,000 ids
        above = min(self._settled, max(hot, self._filled)) if leads else self._settled
        await self._compare(above, until, fill_above=hot if leads else until)
        if self._grid.view() != self._seen:
            return
        self._settle_at(until)
        self._filled = until if leads else ""
        if cooling:
            self._cooled_s = now_s
            await self._grid.expire(min(hot, self._peers.settled()))

    async def _rescue(self) -> None:
        """Take what a peer that fell silent put into the map, and nobody fetched: it may come back without its disk."""
        silences = self._peers.silences
        if self._rescued != silences:
            now_ms = self._now_ms()
            recent = ids.last_id(now_ms - int(1_000 * IN_FLIGHT_S))
            if not await self._compare(max(self._settled, recent), ids.last_id(now_ms), fill_above=recent):
                raise StoreError("the map lists a message that it does not give yet")  # its partition moves
            self._rescued = silences

    def _is_late(self, message_id: str) -> bool:
        """Whether nodes may soon believe that there is nothing new at this id: then all must have it on disk now."""
        return ids.time_ms(message_id) < self._now_ms() - int(500 * IN_FLIGHT_S)

    def _settle_at(self, until: str) -> None:
        self._settled = until
        self._peers.settle_at(until)

    async def _hot_above(self) -> str:
        """The map keeps what is above this id."""
        oldest = ids.last_id(self._now_ms() - int(60_000 * self._hot.minutes))
        return max(oldest, await self._journal.newest(self._hot.messages))

    async def _compare(self, above: str, until: str, *, fill_above: str) -> bool:
        """Of the ids in (above, until]: take what only the map has, and put there what it lacks above `fill_above`.

        Whether the map gave all that it lists.
        """
        to_map = to_journal = listed = 0
        while above < until:
            here = await self._journal.ids(above, COMPARED_IDS)
            there = await self._grid.ids(above, COMPARED_IDS)
            end = min([until, *(found[-1] for found in (here, there) if len(found) == COMPARED_IDS)])
            only_there = missing(there, here, end)
            listed += len(only_there)
            to_journal += await copy(only_there, self._grid, self._journal.keep)
            lacking = [message_id for message_id in missing(here, there, end) if message_id > fill_above]
            to_map += await copy(lacking, self._journal, self._grid.append_all)
            above = end
        if to_map or to_journal:
            log.info("compared", messages_to_map=to_map, messages_to_journal=to_journal)
        return to_journal == listed

    async def _all_in_map(self, entries: Sequence[Entry]) -> bool:
        return not entries or await self._in_map(self._grid.append_all, entries)

    async def _in_map(self, append: Callable[P, Awaitable[None]], *args: P.args, **kwargs: P.kwargs) -> bool:
        """Whether the map took it."""
        began_s = time.perf_counter()
        try:
            with spans.asked("put into the map", "hazelcast"):
                await self._soon(append, *args, **kwargs)
        except StoreError:
            self._observers.unmapped()
            return False
        self._observers.mapped(time.perf_counter() - began_s)
        return True

    async def _new_in_map(self, read: Callable[[], Awaitable[list[Entry]]], *, needed: bool) -> list[Entry]:
        """What the map has; when it is not `needed`, because all peers have answered, only if it answers soon."""
        if needed:
            return await read()
        with contextlib.suppress(StoreError):
            return await self._soon(read)
        return []

    async def _soon(self, call: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the map answers; raises StoreError when it does not in time: then it is not asked until a probe was."""
        if not self._well:
            raise StoreError("the map does not answer")
        try:
            async with asyncio.timeout(GRACE_S):
                return await call(*args, **kwargs)
        except (StoreError, TimeoutError) as error:
            self._doubt()
            raise StoreError(f"the map did not answer in {GRACE_S} s") from error

    def _doubt(self) -> None:
        """The map did not answer: go without it until it does."""
        if self._well:
            self._well = False
            log.warning("the map does not answer, messages go to the disks of all live nodes")
            self._begin(self._probe())

    async def _probe(self) -> None:
        began_s = self._clock()
        while not self._well:
            await asyncio.sleep(PROBE_S)
            try:
                await self._grid.read(ids.last_id(self._now_ms()), 1)  # asks all partitions
            except StoreError:
                continue
            except Exception:
                log.exception("asking the map broke")  # a defect of ours; without this nobody would ask again
                continue
            self._well = True
        log.info("the map answers again", after_s=self._clock() - began_s)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, context=contextvars.Context())  # it outlives the request that began it
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
