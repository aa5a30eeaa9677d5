"""Logging nodes in one event loop, for tests of how they replicate: real sockets, journals in memory."""

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from common import ids
from common.protocol.messages import Ping, State, Status
from common.rpc.pipelined import PipelinedTransport
from common.rpc.server import Server
from nodes.replication.anti_entropy import AntiEntropy
from nodes.replication.core.effects import Settings
from nodes.replication.core.machine import Core
from nodes.replication.runtime import Replicator
from nodes.service import LoggingNode
from nodes.storage.memory import MemoryJournal, MemoryTables
from registry.directory import Directory
from registry.in_sync import FIRST_RENEWALS_S
from tests.support.servers import serving
from tests.support.waiting import becomes

# A renewal each 0.2 s makes tests short; the long limits keep a busy test machine from fencing anybody.
SETTINGS = Settings(heartbeat_s=0.2, confirm_s=5.0, join_confirm_s=5.0, standstill_s=2.0, suspend_s=5.0)


def new_journal(tables: MemoryTables | None = None) -> MemoryJournal:
    """A journal with a new incarnation on these tables, or on empty ones."""
    return MemoryJournal(tables or MemoryTables(), lambda: secrets.randbits(62) | 1)


@contextmanager
def serving_registry(*, address: str | None = None) -> Iterator[str]:
    """The address of a real registry whose start is over; its clock stands still, so no lease lapses."""
    now_s = [0.0]
    directory = Directory({}, {}, clock=lambda: now_s[0], draw=itertools.count(1).__next__)
    now_s[0] = FIRST_RENEWALS_S + 0.01
    with serving(directory.handle, address=address) as listening:
        yield listening


@dataclass
class RunningNode:
    """One logging node with all of its parts."""

    address: str
    journal: MemoryJournal
    replicator: Replicator
    node: LoggingNode

    async def listed(self) -> list[str]:
        """The addresses that are listed in its in-sync set."""
        return list((await self.node.report()).in_sync)

    async def state(self) -> State:
        """The state that it reports to a ping."""
        status = await self.node.handle(Ping())
        assert isinstance(status, Status)
        return status.state

    async def texts(self) -> list[str]:
        """The texts in its journal, sorted."""
        return sorted(self.journal.tables.texts)

    async def serves_among(self, addresses: Sequence[str]) -> None:
        """Return when the node serves, and its in-sync set lists exactly these addresses."""
        await becomes(sorted(addresses), self.listed)
        await becomes(State.READY, self.state)

    async def has(self, texts: Sequence[str]) -> None:
        """Return when the journal of the node has exactly these texts."""
        await becomes(sorted(texts), self.texts)


@asynccontextmanager
async def running(
    address: str,
    configured: Sequence[str],
    registries: Sequence[str],
    *,
    journal: MemoryJournal | None = None,
    settings: Settings = SETTINGS,
    now_ms: Callable[[], int] = ids.now_ms,
    opened: bool = True,
    make_core: Callable[..., Core] = Core,
) -> AsyncIterator[RunningNode]:
    """A logging node at a real address until the block ends; then it stops as after a kill, without leaving its set.

    Args:
        address: host:port of the node.
        configured: host:port of every logging node in the configuration.
        registries: host:port of each registry.
        journal: that of the node; by default an empty one.
        settings: times and limits of the replication core.
        now_ms: the clock of the node, in milliseconds since 1970.
        opened: True if the storage is open, so that the node may serve clients.
        make_core: makes the replication core, as the class Core does.
    """
    journal = journal or new_journal()
    stop, transport = asyncio.Event(), PipelinedTransport()
    core = make_core(address, journal.opened, configured, settings, now_s=asyncio.get_running_loop().time())
    replicator = Replicator(core, journal, transport, registries)
    node = LoggingNode(address, "embedded", journal, replicator, AntiEntropy(core, journal, transport), now_ms=now_ms)
    if opened:
        node.opened()
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(transport.close)
        await stack.enter_async_context(replicator.running())
        server = asyncio.create_task(Server(address, node.handle, direct=replicator.direct).serve(stop))
        stack.push_async_callback(asyncio.wait, {server})
        stack.callback(stop.set)
        yield RunningNode(address, journal, replicator, node)
