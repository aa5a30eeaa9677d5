"""Tests of nodes.hazelcast.member with a real Java."""

import asyncio
import os
from pathlib import Path

import psutil
import pytest

from common.errors import FatalError
from nodes.hazelcast import member
from nodes.hazelcast.java import JavaRuntime
from scripts.launcher.ports import free_addresses
from tests.support.clusters import alive
from tests.support.waiting import eventually


async def with_member(runtime: JavaRuntime, address: str, log_path: Path) -> member.MemberHealth | None:
    """Start a member of a cluster of its own; its health once it has started and is safe."""
    async with member.running_member(
        runtime, address=address, members=[address], cluster_name="alone", heap_mb=128, log_path=log_path
    ) as running:
        await running.started()
        assert await running.wait(lambda health: health.has_all_backups, timeout_s=10.0)
        assert not await running.wait(lambda health: health.cluster_size > 1, timeout_s=0.2)
        return member.read_health(address)


def test_a_member_runs_while_the_block_runs(runtime: JavaRuntime, tmp_path: Path) -> None:
    """A member starts, reports its health, and shuts down gracefully at the end of the block."""
    (address,) = free_addresses(1)
    health = asyncio.run(with_member(runtime, address, tmp_path / "member.log"))

    assert health == member.MemberHealth(node_state="ACTIVE", cluster_size=1, cluster_safe=True, migration_queue_size=0)
    assert member.read_health(address) is None
    assert "is STARTED" in (tmp_path / "member.log").read_text()


def test_a_member_that_cannot_start_is_reported_with_the_reason(runtime: JavaRuntime, tmp_path: Path) -> None:
    """A port of Hazelcast that is taken is one sentence with Hazelcast's own reason."""

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


def test_a_member_dies_with_its_parent(runtime: JavaRuntime, tmp_path: Path) -> None:
    """SIGKILL of a node, which the node cannot handle, also ends its member."""
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
        eventually(lambda: (tmp_path / "started").exists() or not alive(child), timeout_s=60.0)
        (java,) = child.children()
    finally:
        child.kill()
        os.waitpid(pid, 0)
    psutil.wait_procs([java], timeout=5.0)
    assert not alive(java)
