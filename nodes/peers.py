"""The other logging nodes, as one of them sees them: what their journals get is fetched into its own.

Each node asks each peer ten times a second for what the peer accepted since, so that soon every live node has every
message on disk; and once more when a read, or a write that the map does not take, must know that nothing is missing.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from common import rpc
from common.codec import Reply, Request
from common.errors import PeerError, StoreError
from common.replication import Fetch, Fetched, Scope, Sync, Synced
from common.wire import Known, Lookup, Wire
from nodes.background import repeat
from nodes.journal import Cursor, Journal

log = logging.getLogger(__name__)

FETCH_S = 0.1  # between two fetches from one peer: 1 % of a core for three idle nodes
FETCHED_S = 0.3  # for the answer to a fetch: a page of 1 MiB takes 15 ms
SYNCED_S = 0.5  # for a peer to have fetched from this node, and flushed
LEARN_S = 1.0  # between two questions to the registry for the peers
LOOKUP_S = 0.5  # for one answer of one registry
RELAY_S = 5.0  # before a peer fell silent: its last answer is younger
PEERS = 100  # at most
BEHIND_S = 1.0  # of catching up, then a node says that it cannot serve
TRAIL = 1_000  # fetches that are remembered: of 10 s and more
TOLD_MESSAGES = 50_000  # fetched between two lines in the log that tell how far it is

T = TypeVar("T")
ReplyType = TypeVar("ReplyType", bound=Wire)


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


class Peers:
    """Fetches from, and answers, the other logging nodes.

    Args:
        transport: carries requests.
        registries: host:port of each; they know who the others are.
        address: host:port of this node.
        journal: where everything goes.
    """

    def __init__(self, transport: rpc.Transport, registries: Sequence[str], *, address: str, journal: Journal) -> None:
        self._transport = transport
        self._registries = registries
        self.address = address
        self._journal = journal
        self._peers: dict[str, _Peer] = {}
        self.settled_here = ""  # up to this id the journal has everything; told to the peers

    def meet(self, addresses: Iterable[str]) -> None:
        """From now on these are peers, too."""
        for address in addresses:
            if address != self.address and address not in self._peers and len(self._peers) < PEERS:
                self._peers[address] = _Peer(self._transport, address, self, self._journal)

    def known(self) -> tuple[str, ...]:
        """Who the peers are."""
        return tuple(self._peers)

    async def handle(self, request: Fetch | Sync) -> Reply:
        """Answer a peer; raises StoreError."""
        self.meet([request.node])
        if isinstance(request, Fetch) and request.node in self._peers:
            self._peers[request.node].settled = request.settled
        match request:
            case Fetch(journal=name) if name != self._journal.name:
                return Fetched(journal=self._journal.name, records=(), next=0, more=True)
            case Fetch(node=node, after=after, scope=scope):
                return await self._journal.since(after, scope, node=node)
            case Sync(node=node):
                if node not in self._peers or not await self._peers[node].fetch():
                    raise StoreError(f"{self.address} could not fetch from {node}")
                return Synced(node=self.address)

    async def fetch(self) -> bool:
        """Whether all that any node had accepted before this call is in the journal now.

        Not so while a peer is silent; its timeout is paid once, then it is asked beside until it answers.
        Raises StoreError when the journal cannot take it.
        """
        known = list(self._peers.values())
        live = [peer for peer in known if not peer.silent]
        answers = await asyncio.gather(*(peer.fetch() for peer in live))
        return len(live) == len(known) and all(answers)

    def whole(self) -> bool:
        """Whether everything that any node had when it was first met is in the journal."""
        return all(peer.whole for peer in self._peers.values())

    def behind(self) -> bool:
        """Whether this node is catching up with a peer, and not soon done."""
        return any(peer.behind_s() > BEHIND_S for peer in self._peers.values())

    def settled(self) -> str:
        """Up to this id the journals of all live nodes, this one included, have everything."""
        return min([self.settled_here, *(peer.settled for peer in self._peers.values() if not peer.silent)])

    def any_silent(self) -> bool:
        """Whether a peer is: then the others are asked for what they have from it, too."""
        return any(peer.silent for peer in self._peers.values())

    def relay_what_it_left(self) -> None:
        """A peer fell silent: what it accepted last may be at others, from before this node asked them for such."""
        for peer in self._peers.values():
            if not peer.silent:
                peer.go_back(RELAY_S)

    def live(self) -> tuple[str, ...]:
        """The peers that answered the last time."""
        return tuple(address for address, peer in self._peers.items() if not peer.silent)

    async def ask(
        self, address: str, request: Request, expect: type[ReplyType], *, timeout_s: float
    ) -> ReplyType | None:
        """What one peer answers, or None."""
        peer = self._peers.get(address)
        return await peer.ask(request, expect, timeout_s=timeout_s) if peer else None

    async def replicate(self) -> None:
        """Have the live peers fetch what this node has.

        Raises:
            StoreError: there are some, and none of them has it on its disk now.
        """
        live = [peer for peer in self._peers.values() if not peer.silent]
        if live and not any(await asyncio.gather(*(peer.push() for peer in live))):
            raise StoreError("no peer has fetched the message in time")

    async def learn(self) -> None:
        """Ask the registries who the peers are: who is configured or has a lease, whatever it sees of the cluster.

        A peer that is silent and that no registry lists any more is forgotten.
        """
        listed: set[str] = set()
        for name in ("configured-logging-service", "logging-service"):
            listed |= await asyncio.to_thread(self._lookup, name)
        self.meet(listed)
        if listed:
            for address in [address for address, peer in self._peers.items() if peer.silent and address not in listed]:
                self._peers.pop(address).close()

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Fetch from all peers, and learn who they are, while the block runs."""
        tasks = [
            asyncio.create_task(repeat(self._fetch_beside, every_s=FETCH_S, what="fetching from the peers")),
            asyncio.create_task(repeat(self.learn, every_s=LEARN_S, what="learning who the peers are")),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        """End the threads that wait for peers."""
        for peer in self._peers.values():
            peer.close()

    async def _fetch_beside(self) -> None:
        for peer in self._peers.values():
            peer.fetch_beside()

    def _lookup(self, name: str) -> set[str]:
        for registry in self._registries:
            with contextlib.suppress(PeerError):
                return set(rpc.ask(self._transport, registry, Lookup(name=name), Known, timeout_s=LOOKUP_S).values)
        return set()


class _Peer:
    """One other node. Threads wait for its answers: to a fetch, to a request to fetch from this node, and to others."""

    def __init__(self, transport: rpc.Transport, address: str, peers: Peers, journal: Journal) -> None:
        self._transport = transport
        self._address = address
        self._peers = peers
        self._journal = journal
        self._threads = ThreadPoolExecutor(3, thread_name_prefix=f"peer-{address}")
        self._name, self._cursor = "", Cursor(0, whole=False)
        self._beside: asyncio.Task[None] | None = None
        self._back_to: int | None = None
        self._relayed = 0  # up to this number it was asked for more than what it accepted
        self._behind_since_s = 0.0
        self._trail: deque[tuple[float, int]] = deque(maxlen=TRAIL)
        self.silent = False  # it did not answer the last time
        self.settled = ""  # up to this id its journal has everything
        self.fetch = Shared(self._fetch)
        self.push = Shared(self._push)

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
        if self._beside:
            self._beside.cancel()
        self._threads.shutdown(wait=False)

    async def _fetch_quietly(self) -> None:
        try:
            await self.fetch()
        except StoreError as error:
            log.warning("cannot take what a peer has peer=%s reason=%s", self._address, error)

    async def _fetch(self) -> bool:
        """Whether all that the peer had accepted is in the journal; one that does not answer is silent from then on."""
        if not self._name and (name := await self._journal.last_journal_of(self._address)):
            await self._open(name)
        try:
            while await self._fetch_page():
                self._behind_since_s = self._behind_since_s or asyncio.get_running_loop().time()
        except PeerError as error:
            if not self.silent:
                log.warning("peer silent reason=%s", error)
                self.silent = True
                self._peers.relay_what_it_left()
            return False
        if self.silent:
            log.info("peer answers peer=%s", self._address)
        self.silent, self._behind_since_s = False, 0.0
        self._trail.append((asyncio.get_running_loop().time(), self._cursor.seq))
        return True

    async def _fetch_page(self) -> bool:
        """Whether there is more."""
        if self._back_to is not None:
            self._cursor, self._back_to = Cursor(min(self._back_to, self._cursor.seq), self._cursor.whole), None
        scope = Scope.OTHERS if self._peers.any_silent() else Scope.ACCEPTED
        if not self._cursor.whole:
            scope = Scope.EVERYTHING
        fetched = await self._asked(
            Fetch(
                node=self._peers.address,
                journal=self._name,
                after=self._cursor.seq,
                scope=scope,
                settled=self._peers.settled_here,
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
            log.info("catching up peer=%s at=%s", self._address, cursor.seq)
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
        return await self.ask(Sync(node=self._peers.address), Synced, timeout_s=SYNCED_S) is not None

    async def ask(self, request: Request, expect: type[ReplyType], *, timeout_s: float) -> ReplyType | None:
        """The peer's answer, or None."""
        try:
            return await self._asked(request, expect, timeout_s=timeout_s)
        except PeerError as error:
            log.info("a peer did not answer request=%s reason=%s", type(request).__name__, error)
            return None

    async def _asked(self, request: Request, expect: type[ReplyType], *, timeout_s: float) -> ReplyType:
        def ask() -> ReplyType:
            return rpc.ask(self._transport, self._address, request, expect, timeout_s=timeout_s)

        return await asyncio.get_running_loop().run_in_executor(self._threads, ask)
