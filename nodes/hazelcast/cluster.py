"""Opens the map of a logging node: starts the node's own Hazelcast member, then connects a client to the cluster."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from common.discovery.lookup import ANSWER_S, LookupOutcome, RegistryLookup, run_async
from common.errors import FatalError, UnavailableError
from common.protocol.messages import Lookup, LookupResult
from common.rpc.transport import AsyncTransport, expected
from nodes.hazelcast import java
from nodes.hazelcast.map import CONNECT_S, Projection
from nodes.hazelcast.member import MemberProcess, running_member

log = structlog.get_logger()

REGISTRY_S = 10.0  # wait for a registry at the start: it may be started after the node
REGISTRY_PAUSE_S = 0.1  # between two attempts
FORMING_S = 3.0  # wait for the other members: when started together they start within 2 s of each other


@dataclass(frozen=True, slots=True)
class HazelcastCluster:
    """A Hazelcast cluster as a registry describes it to one node.

    Attributes:
        cluster_name: the name that its members and clients share.
        members: host:port of each member.
        own: the member that this node starts, or None if it starts none.
    """

    cluster_name: str
    members: tuple[str, ...]
    own: str | None


async def find_cluster(
    transport: AsyncTransport, registries: Sequence[str], node: str, *, launch: bool, member: str | None = None
) -> HazelcastCluster:
    """Ask the registries, in their order, for the cluster and the member of the logging node `node` (host:port).

    With `launch` the node starts a member: the one at its own position in the configuration, or `member` (host:port)
    for a node that is not configured.

    Raises:
        FatalError: no registry answers within REGISTRY_S, or the node is not configured or has no member.
    """
    nodes = await look_up(transport, registries, "configured-logging-service")
    (cluster_name,) = await look_up(transport, registries, "hazelcast-cluster-name")
    members = await look_up(transport, registries, "hazelcast-clients")
    if not launch:
        return HazelcastCluster(cluster_name, members, None)
    if member:
        return HazelcastCluster(cluster_name, (*members, member), member)
    if node not in nodes[: len(members)]:
        known = ", ".join(nodes)
        raise FatalError(f"the registry knows no logging node {node} with a member; known: {known}; or set --member")
    return HazelcastCluster(cluster_name, members, members[nodes.index(node)])


async def look_up(transport: AsyncTransport, registries: Sequence[str], name: str) -> tuple[str, ...]:
    """The values registered under a name; raises FatalError if no registry answers within REGISTRY_S."""

    async def ask(registry: str) -> LookupResult:
        reply = await transport.call(registry, Lookup(name=name), timeout_s=ANSWER_S)
        return expected(registry, reply, LookupResult)

    lookup = RegistryLookup(registries)
    deadline_s = asyncio.get_running_loop().time() + REGISTRY_S
    while True:
        try:
            found = await run_async(lookup.steps(name), ask)
            if found.outcome is LookupOutcome.ANSWERED:
                return found.values
            reason = "the registries have just started"
        except UnavailableError as error:
            reason = error.reason
        if asyncio.get_running_loop().time() > deadline_s:
            raise FatalError(f"the registry does not answer for {name}: {reason}")
        await asyncio.sleep(REGISTRY_PAUSE_S)


@contextlib.asynccontextmanager
async def opened(
    cluster: HazelcastCluster,
    *,
    heap_mb: int,
    keep_s: int,
    log_path: Path,
    forming: Callable[[], None],
    observed: Callable[[float], object],
) -> AsyncIterator[tuple[Projection, "asyncio.Task[str]"]]:
    """Open the map; yields it with a task that ends with the reason when the map cannot be used any more.

    The client connects when all members are present, or after FORMING_S: the first client makes Hazelcast assign the
    partitions, and moving them later takes 1.5 s.

    Args:
        cluster: from `find_cluster`.
        heap_mb: maximum heap of the node's own member.
        keep_s: how long the map keeps a message.
        log_path: log file of the node's own member.
        forming: called when the node's own member has started.
        observed: called with the duration of each put, in seconds.
    """
    async with contextlib.AsyncExitStack() as stack:
        own = None
        if cluster.own:
            runtime = await asyncio.to_thread(java.find)
            own = await stack.enter_async_context(
                running_member(
                    runtime,
                    address=cluster.own,
                    members=cluster.members,
                    cluster_name=cluster.cluster_name,
                    heap_mb=heap_mb,
                    log_path=log_path,
                    keep_s=keep_s,
                )
            )
            await own.started()
            forming()
            await own.wait(lambda health: health.cluster_size >= len(cluster.members), timeout_s=FORMING_S)
        projection = await Projection.connect(cluster.cluster_name, cluster.members, observed=observed)
        stack.push_async_callback(projection.close)
        lost = asyncio.create_task(_lost(projection, own))
        stack.callback(lost.cancel)
        yield projection, lost


async def _lost(projection: Projection, own: MemberProcess | None) -> str:
    """Wait until the map cannot be used, and return why: the node's member ended, or no member is reachable."""
    waits = {asyncio.create_task(_unreachable(projection))}
    waits |= {asyncio.create_task(own.ended())} if own else set()
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for wait in waits:
            wait.cancel()


async def _unreachable(projection: Projection) -> str:
    await projection.lost.wait()
    return f"no Hazelcast member could be reached for {CONNECT_S} s"
