"""Tests of nodes.hazelcast.cluster with a real Java."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from common import ids
from common.protocol.content import Entry
from nodes.hazelcast import cluster, member
from nodes.hazelcast.cluster import HazelcastCluster
from nodes.hazelcast.java import JavaRuntime
from nodes.hazelcast.map import SIZE_S, Projection
from scripts.launcher.ports import free_addresses
from tests.support.waiting import becomes


@asynccontextmanager
async def opened_map(
    membership: HazelcastCluster, folder: Path, *, forming: Callable[[], None]
) -> AsyncIterator[tuple[Projection, "asyncio.Task[str]"]]:
    """The map of a node, and a task that ends when the map is lost."""
    async with cluster.opened(
        membership,
        heap_mb=128,
        keep_s=3_600,
        log_path=folder / "member.log",
        forming=forming,
        observed=lambda _seconds: None,
    ) as (projection, lost):
        yield projection, lost


async def takes_messages(projection: Projection) -> None:
    """Return when the map has a message."""
    read = asyncio.Event()

    async def recent() -> AsyncIterator[Entry]:
        yield Entry(ids.new_id(), "x")
        read.set()

    async def puts_in_flight() -> int:
        return projection.puts_in_flight

    async def has_messages() -> bool:
        return await projection.entries() > 0

    async with projection.repairing(lambda: True, recent):
        await asyncio.wait_for(read.wait(), 20.0)
        await becomes(0, puts_in_flight)
        await becomes(True, has_messages, timeout_s=2 * SIZE_S)  # the map is counted once in SIZE_S


def test_the_map_is_lost_when_the_own_member_dies(runtime: JavaRuntime, tmp_path: Path) -> None:
    """The task of a lost map ends with the reason when the member of the node is killed."""
    del runtime
    (address,) = free_addresses(1)
    own = HazelcastCluster(cluster_name="lost", members=(address,), own=address)
    calls: list[str] = []

    async def run() -> str:
        async with opened_map(own, tmp_path, forming=lambda: calls.append("forming")) as (projection, lost):
            await takes_messages(projection)
            (java,) = [child for child in psutil.Process().children() if str(tmp_path) in str(child.open_files())]
            java.send_signal(signal.SIGKILL)
            return await asyncio.wait_for(lost, 10.0)

    assert f"the Hazelcast member {address} ended with -9" in asyncio.run(run())
    assert ["forming"] == calls


def test_a_node_without_a_member_uses_the_existing_cluster(runtime: JavaRuntime, tmp_path: Path) -> None:
    """With launch = false a node starts no member and connects to those that are running."""
    (address,) = free_addresses(1)
    existing = HazelcastCluster(cluster_name="existing", members=(address,), own=None)

    async def run() -> None:
        async with member.running_member(
            runtime,
            address=address,
            members=[address],
            cluster_name="existing",
            heap_mb=128,
            log_path=tmp_path / "member.log",
        ) as running:
            await running.started()
            async with opened_map(existing, tmp_path / "node", forming=lambda: None) as (projection, _):
                await takes_messages(projection)
                assert [address] == [one.address for one in projection.members()]

    asyncio.run(run())
    assert not (tmp_path / "node" / "member.log").exists()
