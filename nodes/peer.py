"""One other logging node, as a node sees it: what its journal gets is fetched into this node's own."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import structlog

from common import rpc
from common.codec import Request
from common.errors import PeerError, StoreError
from common.replication import Fetch, Fetched, Scope, Sync, Synced
from common.wire import Wire
from nodes.journal import Cursor, Journal

log = structlog.get_logger()

FETCHED_S = 0.3  # for the answer to a fetch: a page of 1 MiB takes 15 ms
SYNCED_S = 0.5  # for a peer to have fetched from this node, and flushed
TRAIL = 1_000  # fetches that are remembered: of 10 s and more
TOLD_MESSAGES = 50_000  # fetched between two lines in the log that tell how far it is

T = TypeVar("T")
ReplyType = TypeVar("ReplyType", bound=Wire)


@dataclass(slots=True)
class Here:
    """A node, as all its peers are told, and what they have in common.

    Attributes:
        address: host:port.
        settled: up to this id the journal has everything.
        silent: addresses of peers that did not answer the last fetch.
        fell_silent: called when one more is.
    """

    address: str
    fell_silent: Callable[[], None]
    settled: str = ""
    silent: set[str] = field(default_factory=set)


class Peer:
    """One other node. Threads wait for its answers: to a fetch, to a request to fetch from this node, and to others."""

    def __init__(self, transport: rpc.Transport, address: str, here: Here, journal: Journal) -> None:
        self._transport = transport
        self._address = address
        self._here = here
        self._journal = journal
        self._threads = ThreadPoolExecutor(3, thread_name_prefix=f"peer-{address}")
        self._name, self._cursor = "", Cursor(0, whole=False)
        self._beside: asyncio.Task[None] | None = None
        self._back_to: int | None = None
        self._relayed = 0  # up to this number it was asked for more than what it accepted
        self._behind_since_s = 0.0
        self._trail: deque[tuple[float, int]] = deque(maxlen=TRAIL)
        self.settled = ""  # up to this id its journal has everything
        self.fetch = Shared(self._fetch)
        self.push = Shared(self._push)

    @property
    def silent(self) -> bool:
        """Whether it did not answer the last fetch."""
        return self._address in self._here.silent

    @property
    def whole(self) -> bool:
        """Whether all is here that it had when it was first met."""
        return self._cursor.whole

    def behind_s(self) -> float:
        """For how long its answers have said that there is more."""
        return asyncio.get_running_loop().time() - self._behind_since_s if self._behind_since_s else 0.0

    def go_back(self, seconds: float) -> None:
        """Fetch again what was there so many seconds ago: a node that fell silent may have left something there."""
        if self._trail:
            since = asyncio.get_running_loop().time() - seconds
            seq = max((seq for at, seq in self._trail if at <= since), default=self._trail[0][1])
            self._back_to = max(seq, self._relayed)  # for the next fetch: one may be on its way

    def fetch_beside(self) -> None:
        """Fetch in the background, unless that runs already."""
        if self._beside is None or self._beside.done():
            self._beside = asyncio.create_task(self._fetch_quietly())

    def close(self) -> None:
        """End its threads."""
        if self._beside:
            self._beside.cancel()
        self._threads.shutdown(wait=False)

    async def _fetch_quietly(self) -> None:
        try:
            await self.fetch()
        except StoreError as error:
            log.warning("cannot take what a peer has", peer=self._address, reason=error)

    async def _fetch(self) -> bool:
        """Whether all that the peer had accepted is in the journal; one that does not answer is silent from then on."""
        if not self._name and (name := await self._journal.last_journal_of(self._address)):
            await self._open(name)
        try:
            while await self._fetch_page():
                self._behind_since_s = self._behind_since_s or asyncio.get_running_loop().time()
        except PeerError as error:
            if not self.silent:
                log.warning("peer silent", reason=error)
                self._here.silent.add(self._address)
                self._here.fell_silent()
            self._behind_since_s = 0.0  # what it has more is not to be had now
            return False
        if self.silent:
            log.info("peer answers", peer=self._address)
            self._here.silent.discard(self._address)
        self._behind_since_s = 0.0
        self._trail.append((asyncio.get_running_loop().time(), self._cursor.seq))
        return True

    async def _fetch_page(self) -> bool:
        """Whether there is more."""
        if self._back_to is not None:
            self._cursor, self._back_to = Cursor(min(self._back_to, self._cursor.seq), self._cursor.whole), None
        scope = Scope.OTHERS if self._here.silent else Scope.ACCEPTED
        if not self._cursor.whole:
            scope = Scope.EVERYTHING
        fetched = await self._asked(
            Fetch(
                node=self._here.address,
                journal=self._name,
                after=self._cursor.seq,
                scope=scope,
                settled=self._here.settled,
            ),
            Fetched,
            timeout_s=FETCHED_S,
        )
        if fetched.journal != self._name:  # the first answer, or that of a node with a new disk
            await self._open(fetched.journal)
            return True
        cursor = Cursor(fetched.next, whole=self._cursor.whole or not fetched.more)
        if fetched.records or cursor.whole != self._cursor.whole:
            await self._journal.adopt(self._name, fetched.records, cursor, origin=self._address)
        if cursor.seq // TOLD_MESSAGES > self._cursor.seq // TOLD_MESSAGES and fetched.more:
            log.info("catching up", peer=self._address, at=cursor.seq)
        self._cursor = cursor
        if scope is not Scope.ACCEPTED:
            self._relayed = cursor.seq
        return fetched.more

    async def _open(self, journal: str) -> None:
        """From now on the peer has the journal of that name."""
        self._name, self._cursor = journal, await self._journal.cursor(journal)
        self._back_to, self._relayed = None, 0
        self._trail.clear()
        self._trail.append((0.0, self._cursor.seq))

    async def _push(self) -> bool:
        return await self.ask(Sync(node=self._here.address), Synced, timeout_s=SYNCED_S) is not None

    async def ask(self, request: Request, expect: type[ReplyType], *, timeout_s: float) -> ReplyType | None:
        """The peer's answer, or None."""
        try:
            return await self._asked(request, expect, timeout_s=timeout_s)
        except PeerError as error:
            log.info("a peer did not answer", request=type(request).__name__, reason=error)
            return None

    async def _asked(self, request: Request, expect: type[ReplyType], *, timeout_s: float) -> ReplyType:
        def ask() -> ReplyType:
            return rpc.ask(self._transport, self._address, request, expect, timeout_s=timeout_s)

        return await asyncio.get_running_loop().run_in_executor(self._threads, ask)


class Shared(Generic[T]):
    """Runs `work` one at a time; all who call before a run begins share it, who calls later waits for the next."""

    def __init__(self, work: Callable[[], Awaitable[T]]) -> None:
        self._work = work
        self._turn = asyncio.Lock()
        self._next: asyncio.Task[T] | None = None

    async def __call__(self) -> T:
        """What a run of `work` that begins after this call returns or raises."""
        if self._next is None:
            self._next = asyncio.create_task(self._run())
        return await asyncio.shield(self._next)  # who gives up leaves it to the others

    async def _run(self) -> T:
        async with self._turn:
            self._next = None
            return await self._work()
