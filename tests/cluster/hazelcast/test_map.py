"""Tests of nodes.hazelcast.map with a real Hazelcast member."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from hazelcast.asyncio import HazelcastClient, Map
from hazelcast.errors import HazelcastSerializationError
from hazelcast.predicate import between

from common import ids
from common.protocol.content import Entry
from nodes.hazelcast.java import JavaRuntime
from nodes.hazelcast.map import (
    MAP,
    PUT_S,
    SIZE_S,
    Projection,
    key_of,
    quiet_abandoned_calls,
    read_text_only,
)
from nodes.hazelcast.member import running_member
from scripts.launcher.ports import free_addresses
from tests.support.nodes.entries import map_items
from tests.support.nodes.projection import LARGE_TEXT, new_entries, put
from tests.support.waiting import becomes, eventually

CLUSTER = "map-test"


class LoneMember:
    """A member that forms a cluster of its own, and the event loop in which it was started."""

    def __init__(self, runner: asyncio.Runner, address: str) -> None:
        self.runner = runner
        self.address = address

    def on(self, steps: Callable[[Projection, "Map[Any, Any]"], Awaitable[None]]) -> None:
        """Run the steps with a projection, and with the map of a second client that reads nothing but text."""

        async def run() -> None:
            projection = await Projection.connect(CLUSTER, [self.address])
            async with self.client() as other:
                read_text_only(other)
                await steps(projection, await other.get_map(MAP))
            await projection.close()

        self.runner.run(run())

    @asynccontextmanager
    async def client(self) -> AsyncIterator[HazelcastClient]:
        """A plain Hazelcast client without any settings of this project."""
        made = await HazelcastClient.create_and_start(cluster_name=CLUSTER, cluster_members=[self.address])
        try:
            yield made
        finally:
            await made.shutdown()

    def process(self) -> psutil.Process:
        """The Java process of the member."""
        option = f"-Dthreefold.port={self.address.rpartition(':')[2]}"
        (found,) = [child for child in psutil.Process().children() if option in child.cmdline()]
        return found


@pytest.fixture(scope="module")
def member(runtime: JavaRuntime, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoneMember]:
    """A member that the tests of this module share."""
    (address,) = free_addresses(1)
    stack = AsyncExitStack()

    async def start() -> None:
        running = await stack.enter_async_context(
            running_member(
                runtime,
                address=address,
                members=[address],
                cluster_name=CLUSTER,
                heap_mb=192,
                log_path=tmp_path_factory.mktemp("member") / "member.log",
            )
        )
        await running.started()

    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(quiet_abandoned_calls)
        try:
            runner.run(start())
            yield LoneMember(runner, address)
        finally:
            runner.run(stack.aclose())


async def becomes_counted(projection: Projection, least: int) -> None:
    """Wait until the projection counts at least so many messages; a count that takes too long is tried again."""

    async def enough() -> bool:
        return await projection.entries() >= least

    await becomes(True, enough, timeout_s=2 * SIZE_S)


async def becomes_filled(projection: Projection, other: "Map[Any, Any]", entries: Sequence[Entry]) -> None:
    """Return when the map has these messages, which are the recent ones of a node that repairs the map."""

    async def recent() -> AsyncIterator[Entry]:
        for entry in reversed(entries):
            yield entry

    async def there() -> bool:
        try:
            return map_items(entries) == await other.get_all([key_of(entry.id) for entry in entries])
        except HazelcastSerializationError:
            return False

    async with projection.repairing(lambda: True, recent):
        await becomes(True, there, timeout_s=20.0)


def test_any_hazelcast_client_reads_the_map(member: LoneMember) -> None:
    """Keys and values are plain text, so that a client without our code can query a range of ids."""

    async def steps(projection: Projection, other: "Map[Any, Any]") -> None:
        entries = new_entries("plain", 'text "é" \n\x00 😀')
        await becomes_filled(projection, other, entries)
        async with member.client() as plain:
            messages: Map[Any, Any] = await plain.get_map(MAP)
            wanted = between("__key", entries[0].id, entries[-1].id)
            assert map_items(entries) == dict(await messages.entry_set(wanted))
        await becomes_counted(projection, 2)
        (seen,) = projection.members()
        assert (member.address, 31) == (seen.address, seen.partitions)

    member.on(steps)


class MakesFolder:
    """An object that makes a folder when it is unpickled; an attacker could run any code instead."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        """The call that unpickling makes."""
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("nested", [False, True])
def test_a_node_never_unpickles_what_an_attacker_put_into_the_map(
    member: LoneMember, tmp_path: Path, *, nested: bool
) -> None:
    """An object in place of a text, alone or in a list, is not unpickled by a node, and later puts replace it."""
    folder = tmp_path / "pwned"
    value = [MakesFolder(folder)] if nested else MakesFolder(folder)

    async def steps(projection: Projection, other: "Map[Any, Any]") -> None:
        first, second = entries = new_entries("a", "b")
        async with member.client() as plain:
            attacked: Map[Any, Any] = await plain.get_map(MAP)
            await attacked.put(key_of(first.id), value)
            await becomes_counted(projection, 1)
            await put(projection, entries)
            await becomes_filled(projection, other, entries)

            await attacked.put(key_of(first.id), value)
            with pytest.raises(HazelcastSerializationError):
                await other.get(key_of(first.id))
            assert "b" == await other.get(key_of(second.id))
            assert await other.get(key_of(ids.new_id())) is None
            assert not folder.exists()
            await attacked.get(key_of(first.id))  # a client with the default settings unpickles it
            assert folder.exists()
            await attacked.delete(key_of(first.id))

    member.on(steps)


def test_a_member_that_hangs_delays_one_put_and_is_filled_later(member: LoneMember) -> None:
    """One put waits for PUT_S and the next ones do not; the recent messages are put again when the member continues."""

    async def steps(projection: Projection, other: "Map[Any, Any]") -> None:
        loop = asyncio.get_running_loop()
        first, *others = new_entries(*map(str, range(50)))
        await becomes_filled(projection, other, [first])
        process = member.process()
        process.send_signal(signal.SIGSTOP)
        try:
            eventually(lambda: process.status() == psutil.STATUS_STOPPED)
            began_s = loop.time()
            await put(projection, others[:1])
            assert loop.time() - began_s < 20 * PUT_S  # a busy machine
            began_s = loop.time()
            for entry in others[1:]:
                await put(projection, [entry])
            assert loop.time() - began_s < PUT_S * len(others) / 2  # if each waited, it would be PUT_S for each
            assert projection.missed >= len(others)
        finally:
            process.send_signal(signal.SIGCONT)
        await becomes_filled(projection, other, [first, *others])

    member.on(steps)


def test_many_large_messages_reach_the_map(member: LoneMember) -> None:
    """A repair puts 10 MB of large messages in chunks, and the member survives it."""

    async def steps(projection: Projection, other: "Map[Any, Any]") -> None:
        entries = new_entries(*[LARGE_TEXT] * 160)
        await becomes_filled(projection, other, entries)
        assert not projection.lost.is_set()
        await other.clear()

    member.on(steps)


def test_a_replica_that_does_not_repair_puts_nothing_again(member: LoneMember) -> None:
    """Only the replica that is chosen for repairs puts the recent messages again, so the work is not done twice."""

    async def steps(projection: Projection, other: "Map[Any, Any]") -> None:
        asked = asyncio.Event()
        (entry,) = new_entries("x")

        def repairs() -> bool:
            asked.set()
            return False

        async def recent() -> AsyncIterator[Entry]:
            yield entry

        async with projection.repairing(repairs, recent), asyncio.timeout(20.0):
            await asked.wait()
        assert not await other.contains_key(entry.id)

    member.on(steps)
