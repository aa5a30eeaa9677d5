"""Tests of nodes.hazelcast.map, on a map that the test controls and on a real member."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
from hazelcast.asyncio import HazelcastClient, Map
from hazelcast.errors import ClientOfflineError, HazelcastSerializationError, TargetDisconnectedError
from hazelcast.predicate import between
from structlog.typing import EventDict

from common import ids
from common.errors import FatalError
from common.protocol.messages import Entry
from nodes.hazelcast import member, put_all
from nodes.hazelcast.java import JavaRuntime
from nodes.hazelcast.map import (
    CHUNK_BYTES,
    MAP,
    OLD_MS,
    PUT_S,
    PUTS,
    Projection,
    key_of,
    quiet_abandoned_calls,
    read_text_alone,
)
from nodes.hazelcast.text import Text
from scripts.launcher.ports import free_addresses
from tests.support.waiting import becomes

CLUSTER = "map-test"
LARGE = "x" * 60 * 1_024


class Twin:
    """A map that keeps the messages that are put, fails, or hangs."""

    def __init__(self) -> None:
        self.puts: list[dict[str, str]] = []
        self.sent = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.error: Exception | None = None

    def send(self, _map: object, texts: Mapping[Text, Text]) -> "asyncio.Future[None]":
        """See put_all.send."""
        self.sent += 1

        async def put() -> None:
            await self.answers.wait()
            if self.error:
                raise self.error
            self.puts.append({str(key): str(text) for key, text in texts.items()})

        return asyncio.ensure_future(put())

    async def size(self) -> int:
        """See hazelcast.asyncio.Map."""
        await self.answers.wait()
        return sum(map(len, self.puts))


def projected(twin: Twin, *, observed: Callable[[float], object] = lambda _seconds: None) -> Projection:
    """A projection that puts into the twin."""
    messages = cast("Map[Text, Text]", twin)
    return Projection(cast(HazelcastClient, None), messages, asyncio.Event(), observed, twin.send)


async def put(projection: Projection, entries: Sequence[Entry]) -> None:
    """Put messages, and wait for that like a node."""
    if answer := projection.send(entries):
        await asyncio.wait([answer])


def new(*texts: str) -> list[Entry]:
    """Messages with new ids."""
    return [Entry(ids.new_id(), text) for text in texts]


def test_messages_are_put_unchanged() -> None:
    """The id is the key and the text the value; the duration is observed."""

    async def run() -> None:
        twin, observed = Twin(), list[float]()
        entries = new("a", "b")
        await put(projected(twin, observed=observed.append), entries)
        assert [dict(entries)] == twin.puts
        assert 1 == len(observed)

    asyncio.run(run())


def test_a_put_that_nobody_awaits_is_sent_and_counted() -> None:
    """A put is sent before `send` returns, and its result is counted even if the append was abandoned."""

    async def run() -> None:
        twin, observed = Twin(), list[float]()
        projection = projected(twin, observed=observed.append)
        projection.send(new("a"))
        assert 1 == twin.sent
        await asyncio.sleep(2 * PUT_S)
        assert (0, 1, 0) == (projection.missed, len(observed), projection._puts)
        assert observed[0] < PUT_S
        twin.error = OSError("broken")
        projection.send(new("b", "c"))
        await asyncio.sleep(PUT_S / 2)
        assert (2, 0) == (projection.missed, projection._puts)

    asyncio.run(run())


def test_recent_messages_are_put_again_in_chunks() -> None:
    """A repair puts at most about a mebibyte at once, because a member must hold puts in flight."""

    async def run() -> None:
        twin, entries = Twin(), new(*[LARGE] * 160)

        async def recent() -> AsyncIterator[Entry]:
            for entry in entries:
                yield entry

        await projected(twin)._repair(recent)
        assert dict(entries) == {key: text for chunk in twin.puts for key, text in chunk.items()}
        assert max(sum(map(len, chunk.values())) for chunk in twin.puts) < CHUNK_BYTES + len(LARGE)
        assert len(twin.puts) < 12

    asyncio.run(run())


def test_old_messages_are_not_put() -> None:
    """An import of a million old messages would otherwise evict the recent ones."""

    async def run() -> None:
        twin = Twin()
        (recent,) = new("recent")
        old = Entry(ids.first_id(ids.now_ms() - OLD_MS - 1_000), "old")
        projection = projected(twin)
        await put(projection, [old, recent])
        await put(projection, [old])
        assert [{recent.id: "recent"}] == twin.puts

    asyncio.run(run())


def test_a_map_that_hangs_delays_only_the_first_put(logged: list[EventDict]) -> None:
    """The first put waits PUT_S, later ones do not wait; all messages that the map lacks are counted."""

    async def run() -> None:
        twin = Twin()
        twin.answers.clear()
        projection = projected(twin)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await put(projection, new("a", "b"))
        assert PUT_S - 0.01 < loop.time() - began_s < PUT_S + 0.15
        began_s = loop.time()
        for _ in range(100):
            await put(projection, new("c"))
        assert loop.time() - began_s < PUT_S
        assert (102, []) == (projection.missed, twin.puts)
        assert -1 == await projection.entries()

    asyncio.run(run())
    assert ["the map did not take messages in time"] == [line["event"] for line in logged]


def test_a_map_that_fails_does_not_fail_the_append() -> None:
    """Any error of the client only counts as missed: the journals have the message."""

    async def run() -> None:
        for error in (TargetDisconnectedError("gone"), OSError("broken"), ExceptionGroup("x", [OSError("broken")])):
            twin = Twin()
            twin.error = error
            projection = projected(twin)
            await put(projection, new("a"))
            assert 1 == projection.missed

    asyncio.run(run())


class Offline:
    """A map whose client has not reached a member."""

    @property
    def _partition_service(self) -> object:
        raise ClientOfflineError


def test_a_client_that_refuses_at_once_does_not_fail_the_append() -> None:
    """A client has no partition table before it has reached a member."""

    async def run() -> None:
        projection = projected(Twin())
        projection._send = lambda _map, texts: put_all.send(cast("Map[Text, Text]", Offline()), texts)
        await put(projection, new("a"))
        await asyncio.sleep(0)
        assert (1, 0) == (projection.missed, projection._puts)

    asyncio.run(run())


def test_puts_in_flight_are_limited() -> None:
    """At most PUTS are in flight; other messages are left to the next repair."""

    async def run() -> None:
        twin = Twin()
        twin.answers.clear()
        projection = projected(twin)
        puts = [asyncio.create_task(put(projection, new("x"))) for _ in range(PUTS + 3)]
        done, _ = await asyncio.wait(puts, timeout=PUT_S / 2)
        assert (3, 3) == (len(done), projection.missed)
        twin.answers.set()
        await asyncio.gather(*puts)
        assert (PUTS, 3) == (len(twin.puts), projection.missed)

    asyncio.run(run())


def test_abandoned_calls_are_quiet_and_defects_are_not(
    logged: list[EventDict], caplog: pytest.LogCaptureFixture
) -> None:
    """Errors of the client's own tasks are logged at level debug; all others are reported as usual."""
    loop = asyncio.new_event_loop()
    with caplog.at_level(logging.ERROR):
        quiet_abandoned_calls(loop, {"message": "never retrieved", "exception": TargetDisconnectedError("gone")})
        quiet_abandoned_calls(loop, {"message": "a defect", "exception": ZeroDivisionError("oops")})
    loop.close()

    assert [("debug", "gone")] == [(line["log_level"], line["reason"]) for line in logged]
    assert "a defect" in caplog.text


def test_an_unreachable_cluster_is_named() -> None:
    """`connect` gives up after its timeout, and the error names cluster and addresses."""

    async def run() -> None:
        async with asyncio.timeout(20):
            await Projection.connect("nobody", ["127.0.0.1:9"], connect_s=0.5)

    with pytest.raises(FatalError, match=r"no Hazelcast member of 'nobody' at 127\.0\.0\.1:9"):
        asyncio.run(run())


# Tests with a real member


class Alone:
    """A single member, and the loop in which it was started."""

    def __init__(self, runner: asyncio.Runner, address: str) -> None:
        self.runner = runner
        self.address = address

    def on(self, steps: Callable[[Projection, "Map[Any, Any]"], Awaitable[None]]) -> None:
        """Run the steps with a projection, and with the map of another client that reads only text."""

        async def run() -> None:
            projection = await Projection.connect(CLUSTER, [self.address])
            async with self.client() as other:
                read_text_alone(other)
                await steps(projection, await other.get_map(MAP))
            await projection.close()

        self.runner.run(run())

    @asynccontextmanager
    async def client(self) -> AsyncIterator[HazelcastClient]:
        """A plain Hazelcast client, without our restrictions."""
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
def alone(runtime: JavaRuntime, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alone]:
    """A member that is shared by the tests of this module."""
    (address,) = free_addresses(1)
    stack = AsyncExitStack()

    async def start() -> None:
        running = await stack.enter_async_context(
            member.running_member(
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
            yield Alone(runner, address)
        finally:
            runner.run(stack.aclose())


async def filled(projection: Projection, other: "Map[Any, Any]", entries: Sequence[Entry]) -> None:
    """Repair the map until it has these messages."""

    async def recent() -> AsyncIterator[Entry]:
        for entry in reversed(entries):
            yield entry

    async def has_entries() -> bool:
        try:
            return dict(entries) == await other.get_all([key_of(entry.id) for entry in entries])
        except HazelcastSerializationError:
            return False

    async with projection.kept(lambda: True, recent):
        await becomes(True, has_entries, timeout_s=20.0)


@pytest.mark.cluster
def test_any_hazelcast_client_reads_the_map(alone: Alone) -> None:
    """Key and value are plain text to any client, which may query ranges of ids."""

    async def steps(projection: Projection, other: "Map[Any, Any]") -> None:
        entries = new("plain", 'text "é" \n\x00 😀')
        await filled(projection, other, entries)
        async with alone.client() as plain:
            messages: Map[Any, Any] = await plain.get_map(MAP)
            wanted = between("__key", entries[0].id, entries[-1].id)
            assert dict(entries) == dict(await messages.entry_set(wanted))
        assert await projection.entries() >= 2
        (seen,) = projection.members()
        assert (alone.address, 31) == (seen.address, seen.partitions)

    alone.on(steps)


class Attack:
    """An object that makes a folder when it is unpickled; it could run any code."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        """The call that pickle makes."""
        return os.mkdir, (str(self.folder),)


@pytest.mark.cluster
@pytest.mark.parametrize("nested", [False, True])
def test_objects_in_the_map_are_never_unpickled(alone: Alone, tmp_path: Path, *, nested: bool) -> None:
    """A node does not unpickle an object under the id of a message, or within a list; puts still work."""
    folder = tmp_path / "pwned"
    value = [Attack(folder)] if nested else Attack(folder)

    async def steps(projection: Projection, other: "Map[Any, Any]") -> None:
        first, second = entries = new("a", "b")
        async with alone.client() as plain:
            attacked: Map[Any, Any] = await plain.get_map(MAP)
            await attacked.put(key_of(first.id), value)
            assert await projection.entries() > 0
            await put(projection, entries)
            await filled(projection, other, entries)

            await attacked.put(key_of(first.id), value)
            with pytest.raises(HazelcastSerializationError):
                await other.get(key_of(first.id))
            assert "b" == await other.get(key_of(second.id))
            assert await other.get(key_of(ids.new_id())) is None
            assert not folder.exists()
            await attacked.get(key_of(first.id))  # an unrestricted client unpickles it
            assert folder.exists()
            await attacked.delete(key_of(first.id))

    alone.on(steps)


@pytest.mark.cluster
def test_a_member_that_hangs_is_repaired_later(alone: Alone) -> None:
    """One put waits PUT_S, later ones do not; when the member resumes, the recent messages are put again."""

    async def steps(projection: Projection, other: "Map[Any, Any]") -> None:
        loop = asyncio.get_running_loop()
        first, *others = new(*map(str, range(50)))
        await filled(projection, other, [first])
        process = alone.process()
        process.send_signal(signal.SIGSTOP)
        try:
            began_s = loop.time()
            await put(projection, others[:1])
            assert loop.time() - began_s < PUT_S + 0.2
            began_s = loop.time()
            for entry in others[1:]:
                await put(projection, [entry])
            assert loop.time() - began_s < PUT_S
            assert projection.missed >= len(others)
        finally:
            process.send_signal(signal.SIGCONT)
        await filled(projection, other, [first, *others])

    alone.on(steps)


@pytest.mark.cluster
def test_many_large_messages_reach_the_map(alone: Alone) -> None:
    """A repair puts 10 MB in chunks, and the member survives."""

    async def steps(projection: Projection, other: "Map[Any, Any]") -> None:
        entries = new(*[LARGE] * 160)
        await filled(projection, other, entries)
        assert not projection.lost.is_set()
        await other.clear()

    alone.on(steps)


@pytest.mark.cluster
def test_only_the_replica_that_repairs_puts_messages_again(alone: Alone) -> None:
    """A replica for which `repairs` is False puts nothing."""

    async def steps(projection: Projection, other: "Map[Any, Any]") -> None:
        asked = asyncio.Event()
        (entry,) = new("x")

        def repairs() -> bool:
            asked.set()
            return False

        async def recent() -> AsyncIterator[Entry]:
            yield entry

        async with projection.kept(repairs, recent), asyncio.timeout(20.0):
            await asked.wait()
        assert not await other.contains_key(entry.id)

    alone.on(steps)
