"""How a logging node reads: from its own journal alone."""

import asyncio
import time
from collections.abc import AsyncIterator

from common.protocol.codec import Reply
from common.protocol.messages import (
    PAGE_BYTES,
    PAGE_MESSAGES,
    TAIL_S,
    Code,
    Entry,
    Failure,
    Page,
    Read,
    Tail,
    Tailed,
    text_bytes,
)
from nodes.replication.core.state import Phase, Versions, covers
from nodes.replication.runtime import Replicator
from nodes.storage.protocol import Arrival, Journal

BEHIND_S = 0.05  # that a read waits for what its session has seen
FIRST_CHUNK = 128  # messages: 8 MiB when all are as large as they may be


class Reader:
    """Answers reads of one node.

    Args:
        address: host:port of the node, told in replies.
        journal: that of the node.
        replicator: knows what is on all in-sync disks.
    """

    def __init__(self, address: str, journal: Journal, replicator: Replicator) -> None:
        self._address = address
        self._journal = journal
        self._replicator = replicator

    async def read(self, request: Read) -> Reply:
        """A page of messages, all of which are on the disks of a whole in-sync set."""
        core = self._replicator.core
        if not await self._covers(dict(request.session)):
            return Failure(code=Code.BEHIND, reason=f"{self._address} has less than this session has seen")
        began_s = time.perf_counter()
        entries, following = await read_page(self._journal, request)
        heads = core.replica.heads()
        await self._replicator.may_be_shown(heads)
        if core.phase is Phase.JOINING:
            return self._fenced()
        return Page(
            entries=tuple(entries),
            next=following,
            node=self._address,
            took_ms=ms_since(began_s),
            vector=core.replica.recent_of(heads),
        )

    async def tail(self, request: Tail) -> Reply:
        """What came after a number; waits for it, for at most TAIL_S."""
        core, waiters, journal = self._replicator.core, self._replicator.waiters, self._journal
        if request.journal != journal.name:
            return self._tailed([], journal.last_arrival(), more=False)
        ends_s = asyncio.get_running_loop().time() + TAIL_S
        while True:
            last, heads = journal.last_arrival(), core.replica.heads()
            if last > request.after:
                await self._replicator.may_be_shown(heads)
                if core.phase is Phase.JOINING:
                    return self._fenced()
                arrivals = await journal.arrivals(request.after, last)
                reached = arrivals[-1].number if len(arrivals) == PAGE_MESSAGES or _is_full(arrivals) else last
                return self._tailed(arrivals, reached, more=reached < last)
            try:
                async with asyncio.timeout_at(ends_s):
                    await waiters.until(lambda: journal.last_arrival() > request.after)
            except TimeoutError:
                return self._tailed([], request.after, more=False)

    def _fenced(self) -> Failure:
        return Failure(code=Code.STARTING, reason=f"logging node {self._address} was fenced meanwhile")

    def _tailed(self, arrivals: list[Arrival], following: int, *, more: bool) -> Tailed:
        return Tailed(
            journal=self._journal.name,
            entries=tuple(arrival.entry for arrival in arrivals),
            next=following,
            more=more,
            node=self._address,
            nodes=tuple(arrival.node for arrival in arrivals),
        )

    async def recent(self, after: str, messages: int) -> AsyncIterator[Entry]:
        """The newest messages, from the newest on, above an id and at most so many."""
        before = ""
        while messages > 0:
            limit = min(messages, PAGE_MESSAGES)
            entries = await self._journal.read(after, limit, before=before, newest_first=True)
            for entry in entries:
                yield entry
            if len(entries) < limit:
                return
            messages, before = messages - limit, entries[-1].id

    async def _covers(self, session: Versions) -> bool:
        """True if everything that a session has seen is on the disk, at the latest after BEHIND_S."""
        vector = self._replicator.core.replica.vector
        try:
            async with asyncio.timeout(BEHIND_S):
                await self._replicator.waiters.until(lambda: covers(vector, session))
        except TimeoutError:
            return False
        return True


async def read_page(journal: Journal, request: Read) -> tuple[list[Entry], str | None]:
    """The messages of a page, which ends after the one that reaches PAGE_BYTES of text, and the cursor to go on from.

    It is read in chunks, the later ones as large as the texts so far let expect, so that a log of large texts does not
    bring a thousand of them into memory for a page of sixteen.
    """
    entries: list[Entry] = []
    used_bytes, limit, chunk = 0, request.limit, min(request.limit, FIRST_CHUNK)
    after, before = request.after, request.before
    while True:
        found = await journal.read(after, chunk, before=before, newest_first=request.newest_first)
        for entry in found:
            entries.append(entry)
            used_bytes += text_bytes(entry.msg)
            if used_bytes >= PAGE_BYTES or len(entries) == limit:
                return entries, entry.id
        if len(found) < chunk:
            return entries, None
        after, before = (after, found[-1].id) if request.newest_first else (found[-1].id, before)
        likely = (PAGE_BYTES - used_bytes) * len(entries) // max(used_bytes, 1) + 1
        chunk = min(limit - len(entries), likely)


def _is_full(arrivals: list[Arrival]) -> bool:
    return sum(text_bytes(arrival.entry.msg) for arrival in arrivals) >= PAGE_BYTES


def ms_since(began_s: float) -> float:
    """Milliseconds since a time of `time.perf_counter`."""
    return 1_000 * (time.perf_counter() - began_s)
