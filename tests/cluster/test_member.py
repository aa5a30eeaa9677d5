"""Tests of nodes.hazelcast.member and nodes.hazelcast.cluster with a real Java."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from common import ids
from common.errors import FatalError
from common.protocol.messages import Entry
from common.rpc.pipelined import PipelinedTransport
from nodes.hazelcast import cluster, member
from nodes.hazelcast.cluster import HazelcastCluster
from nodes.hazelcast.java import JavaRuntime
from nodes.hazelcast.map import Projection
from registry.directory import Directory
from scripts.launcher.ports import free_addresses
from tests.support.clusters import alive
from tests.support.servers import serving
from tests.support.waiting import becomes


async def with_member(runtime: JavaRuntime, address: str, log_path: Path) -> member.MemberHealth | None:
    """The health of a member that runs alone, when it has started and is asked whether it is safe."""
    async with member.running_member(
        runtime, address=address, members=[address], cluster_name="alone", heap_mb=128, log_path=log_path
    ) as running:
        await running.started()
        assert await running.wait(lambda health: health.safe, timeout_s=10.0)
        assert not await running.wait(lambda health: health.cluster_size > 1, timeout_s=0.2)
        return member.read_health(address)


def test_a_member_runs_while_it_is_wanted(runtime: JavaRuntime, tmp_path: Path) -> None:
    """It starts, tells its health, and is gone afterwards, gracefully."""
    (address,) = free_addresses(1)
    health = asyncio.run(with_member(runtime, address, tmp_path / "member.log"))

    assert health == member.MemberHealth(node_state="ACTIVE", cluster_size=1, cluster_safe=True, migration_queue_size=0)
    assert member.read_health(address) is None
    assert "is STARTED" in (tmp_path / "member.log").read_text()


def test_a_member_that_cannot_start_tells_its_last_words(runtime: JavaRuntime, tmp_path: Path) -> None:
    """A taken port of Hazelcast is a sentence with Hazelcast's own reason."""

    async def nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def run() -> None:
        (address,) = free_addresses(1)
        host, port = address.split(":")
        async with await asyncio.start_server(nothing, host, int(port)):
            await with_member(runtime, address, tmp_path / "member.log")

    with pytest.raises(FatalError, match=r"did not start: .*already in use") as caught:
        asyncio.run(run())
    assert "\n" not in str(caught.value)


def test_java_that_cannot_be_run_is_one_sentence(tmp_path: Path) -> None:
    """No executable: the sentence of the system."""
    runtime = JavaRuntime(tmp_path, 25, tmp_path / "x.jar", tmp_path / "x.jsa")

    with pytest.raises(FatalError, match=r"cannot start a Hazelcast member: .*No such file"):
        asyncio.run(with_member(runtime, "127.0.0.1:1", tmp_path / "member.log"))


@asynccontextmanager
async def opened_map(
    membership: HazelcastCluster, folder: Path, *, forming: Callable[[], None]
) -> AsyncIterator[tuple[Projection, "asyncio.Task[str]"]]:
    """The map of a node, and a task that ends when it is lost."""
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
    """Return when the map has a message; the first put may take longer than a put waits."""

    async def recent() -> AsyncIterator[Entry]:
        yield Entry(ids.new_id(), "x")

    async def has_messages() -> bool:
        return await projection.entries() > 0

    async with projection.kept(lambda: True, recent):
        await becomes(True, has_messages)


def test_a_map_whose_member_ends_is_lost(runtime: JavaRuntime, tmp_path: Path) -> None:
    """When the member of a node dies, the node learns why it cannot go on."""
    del runtime
    (address,) = free_addresses(1)
    own = HazelcastCluster(cluster_name="lost", members=(address,), own=address)
    told: list[str] = []

    async def run() -> str:
        async with opened_map(own, tmp_path, forming=lambda: told.append("forming")) as (projection, lost):
            await takes_messages(projection)
            (java,) = [child for child in psutil.Process().children() if str(tmp_path) in str(child.open_files())]
            java.send_signal(signal.SIGKILL)
            return await asyncio.wait_for(lost, 10.0)

    assert f"the Hazelcast member {address} ended with -9" in asyncio.run(run())
    assert ["forming"] == told


def test_a_node_joins_a_cluster_that_runs_already(runtime: JavaRuntime, tmp_path: Path) -> None:
    """With launch = false a node starts no member, and uses the one that is there."""
    (address,) = free_addresses(1)
    there = HazelcastCluster(cluster_name="there", members=(address,), own=None)

    async def run() -> None:
        async with member.running_member(
            runtime,
            address=address,
            members=[address],
            cluster_name="there",
            heap_mb=128,
            log_path=tmp_path / "member.log",
        ) as running:
            await running.started()
            async with opened_map(there, tmp_path / "node", forming=lambda: None) as (projection, _):
                await takes_messages(projection)
                assert [address] == [one.address for one in projection.members()]

    asyncio.run(run())
    assert not (tmp_path / "node" / "member.log").exists()


def test_a_member_dies_with_its_parent(runtime: JavaRuntime, tmp_path: Path) -> None:
    """SIGKILL of the node, which it cannot notice, takes its member along."""
    (address,) = free_addresses(1)

    def parent() -> None:
        async def run() -> None:
            async with member.running_member(
                runtime,
                address=address,
                members=[address],
                cluster_name="orphan",
                heap_mb=128,
                log_path=tmp_path / "member.log",
            ) as running:
                await running.started()
                (tmp_path / "started").touch()
                await asyncio.Event().wait()

        asyncio.run(run())

    pid = os.fork()
    if pid == 0:  # pragma: no cover
        parent()
        os._exit(0)
    child = psutil.Process(pid)
    try:
        while not (tmp_path / "started").exists():
            assert alive(child)
        (java,) = child.children()
    finally:
        child.kill()
        os.waitpid(pid, 0)
    psutil.wait_procs([java], timeout=5.0)
    assert not alive(java)


def test_the_membership_of_a_node_comes_from_the_registry() -> None:
    """The cluster, its members and the node's own one are what a registry says that answers."""
    directory = Directory(
        {"logging-service": ("h:2",)},  # the others are down
        {
            "configured-logging-service": ("h:1", "h:2", "h:3"),
            "hazelcast-cluster-name": ("name",),
            "hazelcast-clients": ("h:11", "h:12"),
        },
    )
    (nobody,) = free_addresses(1)

    def ask(node: str, *, launch: bool = True, own: str | None = None) -> HazelcastCluster:
        async def run() -> HazelcastCluster:
            transport = PipelinedTransport()
            try:
                return await cluster.find_cluster(transport, [nobody, registry], node, launch=launch, member=own)
            finally:
                transport.close()

        return asyncio.run(run())

    members = ("h:11", "h:12")
    with serving(directory.handle) as registry:
        assert HazelcastCluster(cluster_name="name", members=members, own="h:12") == ask("h:2")
        assert HazelcastCluster(cluster_name="name", members=members, own=None) == ask("h:3", launch=False)
        assert HazelcastCluster(cluster_name="name", members=(*members, "h:19"), own="h:19") == ask("h:9", own="h:19")
        for unknown in ("h:3", "h:4"):  # a node without a member, and one that is not known
            with pytest.raises(FatalError, match=f"the registry knows no logging node {unknown} with a member"):
                ask(unknown)
