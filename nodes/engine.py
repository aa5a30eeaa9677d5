"""Opens the store of a logging node: a Hazelcast member and a client of its cluster, or the embedded file."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from common import ids, rpc
from common.errors import FatalError, PeerError, StoreError
from common.wire import Known, Lookup
from nodes import grid, java
from nodes.audit import Audit
from nodes.journal import Journal
from nodes.member import Member, running
from nodes.observers import NOBODY, Observers
from nodes.peers import Peers
from nodes.replicated import Hot, ReplicatedStore
from nodes.store import Log

log = structlog.get_logger()

REGISTRY_S = 10.0  # for the registry to answer at the start: it may be started after the node
REGISTRY_PAUSE_S = 0.1  # between two questions
LOOKUP_S = 1.0  # for one answer
FORMING_S = 3.0  # for the other members: they start within 2 s of each other when started together
SAFE_S = 30.0  # for the backups to be in place; 1.5 s with an empty map


@dataclass(frozen=True, slots=True)
class Membership:
    """What a registry says about the cluster: its name, its members, and the node's own one, if it starts one."""

    cluster_name: str
    members: tuple[str, ...]
    own: str | None


@dataclass(frozen=True, slots=True)
class Engine:
    """An open store, and a future that is done, with the reason, when the store cannot be used any more."""

    store: Log
    lost: "asyncio.Future[str]"
    peers: Peers | None = None


async def membership(
    transport: rpc.Transport, registries: Sequence[str], node: str, *, launch: bool, member: str | None = None
) -> Membership:
    """Ask the registries, one after the other, which cluster, and which member, belongs to `node` (host:port).

    With `launch` the node starts a member, so it must have one: that of its number, or `member` (host:port) for a node
    that nobody configured.

    Raises:
        FatalError: no registry answers within REGISTRY_S, or the node is not known, or has no member.
    """
    nodes = await _lookup(transport, registries, "configured-logging-service")
    (cluster_name,) = await _lookup(transport, registries, "hazelcast-cluster-name")
    members = await _lookup(transport, registries, "hazelcast-clients")
    if not launch:
        return Membership(cluster_name, members, None)
    if member:
        return Membership(cluster_name, (*members, member), member)
    if node not in nodes[: len(members)]:
        known = ", ".join(nodes)
        raise FatalError(
            f"the registry knows no logging node {node} with a member; known: {known}; --member gives it one"
        )
    return Membership(cluster_name, members, members[nodes.index(node)])


async def _lookup(transport: rpc.Transport, registries: Sequence[str], name: str) -> tuple[str, ...]:
    ends = asyncio.get_running_loop().time() + REGISTRY_S
    for registry in itertools.cycle(registries):
        try:
            known = await asyncio.to_thread(rpc.ask, transport, registry, Lookup(name=name), Known, timeout_s=LOOKUP_S)
        except PeerError as error:
            if asyncio.get_running_loop().time() > ends:
                raise FatalError(f"no registry answers: {error}") from error
        else:
            return known.values
        await asyncio.sleep(REGISTRY_PAUSE_S)
    raise FatalError("there is no registry to ask")


@contextlib.asynccontextmanager
async def hazelcast(
    cluster: Membership,
    *,
    journal: Journal,
    peers: Peers,
    audit: Audit,
    hot: Hot,
    observers: Observers = NOBODY,
    heap_mb: int,
    log_path: Path,
    forming: Callable[[], None],
) -> AsyncIterator[Engine]:
    """A store of the journal and the cluster's map, with the node's own member if it has one.

    `forming` is called when that member is up. A journal in which any message is damaged is refused.

    The client connects when all members are there, or after FORMING_S: the first client makes Hazelcast deal out the
    partitions, and dealt to one member alone they would have to be moved, which takes 1.5 s and leaves what is
    written meanwhile with too few backups.
    """
    async with contextlib.AsyncExitStack() as stack:
        checking = asyncio.create_task(journal.check())  # beside the start of the member: each takes seconds
        stack.callback(checking.cancel)
        own = None
        if cluster.own:
            runtime = await asyncio.to_thread(java.find)
            own = await stack.enter_async_context(
                running(
                    runtime,
                    address=cluster.own,
                    members=cluster.members,
                    cluster_name=cluster.cluster_name,
                    heap_mb=heap_mb,
                    log_path=log_path,
                )
            )
            await own.started()
            forming()
            await own.wait(lambda health: health.cluster_size >= len(cluster.members), timeout_s=FORMING_S)
        messages = await grid.HazelcastStore.connect(cluster.cluster_name, cluster.members)
        stack.push_async_callback(messages.close)
        if own and not await own.wait(lambda health: health.safe, timeout_s=SAFE_S):
            log.warning("serving before all backups are in place", waited_s=SAFE_S)
        await checking
        store = ReplicatedStore(journal, messages, peers, hot=hot, observers=observers)
        await stack.enter_async_context(peers.kept())
        await _recovered(store, audit)
        await stack.enter_async_context(store.kept())
        lost = asyncio.create_task(_lost(messages, journal, own))
        stack.callback(lost.cancel)
        yield Engine(store, lost, peers)


async def _recovered(store: ReplicatedStore, audit: Audit) -> None:
    """Try until journal, map and the other journals are one: while members join, the map may not answer."""
    ends = asyncio.get_running_loop().time() + SAFE_S
    while True:
        try:
            await audit.verify(ids.last_id(ids.now_ms()))  # a torn journal lacks messages of its own
            return await store.recover()
        except StoreError as error:
            if asyncio.get_running_loop().time() > ends:
                raise FatalError(f"journal and map could not be compared within {SAFE_S} s: {error}") from error
        await asyncio.sleep(REGISTRY_PAUSE_S)


async def _lost(messages: grid.HazelcastStore, journal: Journal, own: Member | None) -> str:
    """Return why this node cannot go on: member ended, the cluster stayed out of reach, or the disk failed."""
    waits = {asyncio.create_task(_cluster_lost(messages)), asyncio.create_task(_disk_failed(journal))}
    waits |= {asyncio.create_task(own.ended())} if own else set()
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for wait in waits:
            wait.cancel()


async def _cluster_lost(messages: grid.HazelcastStore) -> str:
    await messages.lost.wait()
    return f"no Hazelcast member could be reached for {grid.CONNECT_S} s"


async def _disk_failed(journal: Journal) -> str:
    await journal.broken.wait()
    return f"the journal cannot be used any more: {journal.why}"


@contextlib.asynccontextmanager
async def opened(path: Path, cluster_name: str, observers: Observers = NOBODY) -> AsyncIterator[Journal]:
    """The journal in a file, closed at the end; raises FatalError when it cannot be used."""
    journal = await asyncio.to_thread(Journal, path, cluster_name, observers=observers)
    try:
        yield journal
    finally:
        await asyncio.to_thread(journal.close)


@contextlib.asynccontextmanager
async def embedded(journal: Journal) -> AsyncIterator[Engine]:
    """A store in one SQLite file that all logging nodes of this machine share."""
    log.warning("embedded engine: one file on one disk, no Hazelcast cluster")
    await journal.check()
    lost = asyncio.create_task(_disk_failed(journal))
    try:
        yield Engine(journal, lost)
    finally:
        lost.cancel()
