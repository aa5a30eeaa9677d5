"""Reads of a logging node, from its own journal alone."""

import asyncio
import time
from collections.abc import AsyncIterator

from common.protocol.codec import Reply
from common.protocol.content import Entry, content_bytes
from common.protocol.messages import PAGE_BYTES, PAGE_MESSAGES, TAIL_S, Code, Failure, Page, Read, Tail, Tailed
from nodes.replication.core.state import Phase, Versions, covers
from nodes.replication.runtime import Replicator
from nodes.storage.protocol import Arrival, Journal, Matches

BEHIND_S = 0.05  # how long a read waits until the journal covers its session vector
FIRST_CHUNK = 128  # messages in the first read of a page: at most 8 MiB of text


class Reader:
    """Answers the reads of one node.

    Args:
        address: host:port of the node, included in replies.
        journal: the journal of the node.
        replicator: determines which records are on all in-sync disks.
    """

    def __init__(self, address: str, journal: Journal, replicator: Replicator) -> None:
        self._address = address
        self._journal = journal
        self._replicator = replicator

    async def read(self, request: Read) -> Reply:
        """A page of messages, all of them on the disks of a whole in-sync set; a Failure if it cannot be shown."""
        core = self._replicator.core
        if not await self._covers(dict(request.session)):
            return Failure(code=Code.BEHIND, reason=f"{self._address} has less than this session has seen")
        began_s = time.perf_counter()
        entries, following = await (self._search(request) if request.search else read_page(self._journal, request))
        heads = core.replica.pending_vector()
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

    async def _search(self, request: Read) -> Matches:
        return await self._journal.search(
            request.search, request.after, request.limit, before=request.before, newest_first=request.newest_first
        )

    async def tail(self, request: Tail) -> Reply:
        """The messages that arrived after a number, as a long poll: wait for one at most TAIL_S."""
        core, waiters, journal = self._replicator.core, self._replicator.waiters, self._journal
        if request.journal != journal.name:
            return self._tailed([], journal.last_arrival(), more=False)
        ends_s = asyncio.get_running_loop().time() + TAIL_S
        while True:
            last, heads = journal.last_arrival(), core.replica.pending_vector()
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
        )

    async def recent(self, after: str, messages: int) -> AsyncIterator[Entry]:
        """The newest messages, in descending order: those above the id `after`, and at most `messages`."""
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
        """True if the journal covers a session vector, now or within BEHIND_S."""
        vector = self._replicator.core.replica.vector
        try:
            async with asyncio.timeout(BEHIND_S):
                await self._replicator.waiters.until(lambda: covers(vector, session))
        except TimeoutError:
            return False
        return True


async def read_page(journal: Journal, request: Read) -> tuple[list[Entry], str | None]:
    """Read a page, which ends at its limit or after the message that reaches PAGE_BYTES.

    The journal is read in chunks. The average size of the texts so far determines the size of the next chunk, so that
    a log of large texts does not load a thousand of them for a page of sixteen.

    Returns:
        The messages, and the cursor of the next page; None if this is the last one.
    """
    entries: list[Entry] = []
    used_bytes, limit, chunk = 0, request.limit, min(request.limit, FIRST_CHUNK)
    after, before = request.after, request.before
    while True:
        found = await journal.read(after, chunk, before=before, newest_first=request.newest_first)
        for entry in found:
            entries.append(entry)
            used_bytes += content_bytes(entry)
            if used_bytes >= PAGE_BYTES or len(entries) == limit:
                return entries, entry.id
        if len(found) < chunk:
            return entries, None
        after, before = (after, found[-1].id) if request.newest_first else (found[-1].id, before)
        likely = (PAGE_BYTES - used_bytes) * len(entries) // max(used_bytes, 1) + 1
        chunk = min(limit - len(entries), likely)


def _is_full(arrivals: list[Arrival]) -> bool:
    return sum(content_bytes(arrival.entry) for arrival in arrivals) >= PAGE_BYTES


def ms_since(began_s: float) -> float:
    """Milliseconds since a time of `time.perf_counter`."""
    return 1_000 * (time.perf_counter() - began_s)
