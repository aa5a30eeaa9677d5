"""The other logging nodes, as one of them sees them.

Each node asks each peer ten times a second for what the peer accepted since, so that soon every live node has every
message on disk; and once more when a read, or a write that the map does not take, must know that nothing is missing.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TypeVar

import structlog

from common import rpc
from common.codec import Reply, Request
from common.errors import PeerError, StoreError
from common.replication import Fetch, Fetched, Sync, Synced
from common.wire import Known, Lookup, Wire
from nodes.background import repeat
from nodes.journal import Journal
from nodes.peer import Here, Peer

log = structlog.get_logger()

FETCH_S = 0.1  # between two fetches from one peer
LEARN_S = 1.0  # between two questions to the registry for the peers
LOOKUP_S = 0.5  # for one answer of one registry
PEERS = 100  # at most
REACH_S = 3.0  # for a peer that is handed out to answer again; then its lease has lapsed, or only we are cut off
RELAY_S = 5.0  # before a peer fell silent: its last answer is younger
BEHIND_S = 1.0  # of catching up, then a node says that it cannot serve

ReplyType = TypeVar("ReplyType", bound=Wire)


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
        self._peers: dict[str, Peer] = {}
        self._here = Here(address, fell_silent=self._relay)
        self.silences = 0  # how often a peer fell silent

    def meet(self, addresses: Iterable[str]) -> None:
        """From now on these are peers, too."""
        for address in addresses:
            if address != self.address and address not in self._peers and len(self._peers) < PEERS:
                self._peers[address] = Peer(self._transport, address, self._here, self._journal)

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

    async def reach_listed(self) -> None:
        """Return when all peers that the registries hand out have been fetched from, or after REACH_S.

        For a node that was cut off: one that is handed out to clients may have accepted what this one has not.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REACH_S):
                while True:
                    listed = await asyncio.to_thread(self._lookup, "logging-service")
                    if not any(peer.silent for address, peer in self._peers.items() if address in listed):
                        break
                    await self._fetch_beside()
                    await asyncio.sleep(FETCH_S)

    def whole(self) -> bool:
        """Whether everything that any node had when it was first met is in the journal."""
        return all(peer.whole for peer in self._peers.values())

    def behind(self) -> bool:
        """Whether this node is catching up with a peer, and not soon done."""
        return any(peer.behind_s() > BEHIND_S for peer in self._peers.values())

    def settle_at(self, message_id: str) -> None:
        """Up to this id the journal of this node has everything."""
        self._here.settled = message_id

    def settled(self) -> str:
        """Up to this id the journals of all live nodes, this one included, have everything."""
        return min([self._here.settled, *(peer.settled for peer in self._peers.values() if not peer.silent)])

    def _relay(self) -> None:
        """A peer fell silent: what it accepted last may be at others, from before this node asked them for such."""
        self.silences += 1
        for peer in self._peers.values():
            if not peer.silent:
                peer.go_back(RELAY_S)

    def leads(self) -> bool:
        """Whether this node does what one of the live nodes has to do: it is the first of them."""
        return self.address == min((self.address, *self.live()))

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

    async def hand_over(self) -> None:
        """The same, but only told in the log when none of them can: a node starts, and leaves, in any case."""
        try:
            await self.replicate()
        except StoreError as error:
            log.warning("no peer has taken what was accepted here last", reason=error)

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
                self._here.silent.discard(address)

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
