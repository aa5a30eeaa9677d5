"""Tests of nodes.hazelcast.map, with a map in memory that the test controls."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import cast

import pytest
from hazelcast.asyncio import HazelcastClient, Map
from hazelcast.errors import TargetDisconnectedError
from structlog.typing import EventDict

from common import ids
from common.errors import FatalError
from common.protocol.content import Entry
from nodes.hazelcast.map import (
    CHUNK_BYTES,
    OLD_MS,
    PUT_S,
    PUTS,
    Projection,
    quiet_abandoned_calls,
)
from nodes.hazelcast.text import Text
from tests.support.nodes.entries import map_items
from tests.support.nodes.projection import LARGE_TEXT, becomes_idle, new_entries, put


class Twin:
    """A map in memory that keeps what is put, fails, or hangs."""

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


def projection_of(twin: Twin, *, observed: Callable[[float], object] = lambda _seconds: None) -> Projection:
    """A projection that fills the twin."""
    messages = cast("Map[Text, Text]", twin)
    return Projection(cast(HazelcastClient, None), messages, asyncio.Event(), observed, twin.send)


def test_the_map_gets_each_text_under_its_id() -> None:
    """The id is the key and the text is the value, and the duration of the put is observed."""

    async def run() -> None:
        twin, observed = Twin(), list[float]()
        entries = new_entries("a", "b")
        await put(projection_of(twin, observed=observed.append), entries)
        assert [map_items(entries)] == twin.puts
        assert 1 == len(observed)

    asyncio.run(run())


def test_a_put_is_sent_and_counted_also_when_nobody_awaits_it() -> None:
    """A put is sent by the call of `send`, and its outcome counts even if the append is given up in the meantime."""

    async def run() -> None:
        twin, observed = Twin(), list[float]()
        projection = projection_of(twin, observed=observed.append)
        projection.send(new_entries("a"), ids.now_ms())
        assert 1 == twin.sent
        await becomes_idle(projection, missed=0)
        assert 1 == len(observed)
        assert observed[0] < PUT_S
        twin.error = OSError("broken")
        projection.send(new_entries("b", "c"), ids.now_ms())
        await becomes_idle(projection, missed=2)

    asyncio.run(run())


def test_a_repair_puts_the_recent_messages_in_chunks() -> None:
    """A repair puts about one mebibyte at a time, since a member must hold what is in transit beside its entries."""

    async def run() -> None:
        twin, entries = Twin(), new_entries(*[LARGE_TEXT] * 160)

        async def recent() -> AsyncIterator[Entry]:
            for entry in entries:
                yield entry

        await projection_of(twin).repair(recent)
        assert map_items(entries) == {key: text for chunk in twin.puts for key, text in chunk.items()}
        assert max(sum(map(len, chunk.values())) for chunk in twin.puts) < CHUNK_BYTES + len(LARGE_TEXT)
        assert len(twin.puts) < 12

    asyncio.run(run())


def test_messages_with_old_ids_are_not_put() -> None:
    """Old messages of an import are not put, since they would push the recent ones out of the map."""

    async def run() -> None:
        twin = Twin()
        (recent,) = new_entries("recent")
        old = Entry(ids.first_id(ids.now_ms() - OLD_MS - 1_000), "old")
        projection = projection_of(twin)
        await put(projection, [old, recent])
        await put(projection, [old])
        assert [{recent.id: "recent"}] == twin.puts

    asyncio.run(run())


def test_only_the_first_put_waits_for_a_map_that_hangs(logged: list[EventDict]) -> None:
    """The first put waits for PUT_S, the next ones do not wait, and every message that the map missed is counted."""

    async def run() -> None:
        twin = Twin()
        twin.answers.clear()
        projection = projection_of(twin)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await put(projection, new_entries("a", "b"))
        assert PUT_S - 0.01 < loop.time() - began_s
        began_s = loop.time()
        for _ in range(100):
            await put(projection, new_entries("c"))
        assert loop.time() - began_s < 50 * PUT_S  # if each waited, it would be 100 times PUT_S
        assert (102, []) == (projection.missed, twin.puts)
        assert -1 == await projection.entries()

    asyncio.run(run())
    assert ["the map did not take messages in time"] == [line["event"] for line in logged]


def test_an_error_of_the_map_does_not_fail_the_append() -> None:
    """Any error of the client counts as a missed message only, since the journals have the message."""

    async def run() -> None:
        for error in (TargetDisconnectedError("gone"), OSError("broken"), ExceptionGroup("x", [OSError("broken")])):
            twin = Twin()
            twin.error = error
            projection = projection_of(twin)
            await put(projection, new_entries("a"))
            assert 1 == projection.missed

    asyncio.run(run())


def test_the_number_of_concurrent_puts_is_limited() -> None:
    """Beyond PUTS concurrent puts, messages are counted as missed and left to the next repair."""

    async def run() -> None:
        twin = Twin()
        twin.answers.clear()
        projection = projection_of(twin)
        puts = [asyncio.create_task(put(projection, new_entries("x"))) for _ in range(PUTS + 3)]
        done, _ = await asyncio.wait(puts, timeout=PUT_S / 2)
        assert (3, 3) == (len(done), projection.missed)
        twin.answers.set()
        await asyncio.gather(*puts)
        assert (PUTS, 3) == (len(twin.puts), projection.missed)

    asyncio.run(run())


def test_errors_of_abandoned_calls_are_logged_as_debug_lines(
    logged: list[EventDict], caplog: pytest.LogCaptureFixture
) -> None:
    """Errors in the client's own tasks are debug lines, and any other error goes to the default handler of the loop."""
    loop = asyncio.new_event_loop()
    with caplog.at_level(logging.ERROR):
        quiet_abandoned_calls(loop, {"message": "never retrieved", "exception": TargetDisconnectedError("gone")})
        quiet_abandoned_calls(loop, {"message": "a defect", "exception": ZeroDivisionError("oops")})
    loop.close()

    assert [("debug", "gone")] == [(line["log_level"], line["reason"]) for line in logged]
    assert "a defect" in caplog.text


def test_a_cluster_without_members_is_a_fatal_error() -> None:
    """Connecting ends within its limit with an error that names the cluster and the addresses."""

    async def run() -> None:
        async with asyncio.timeout(20):
            await Projection.connect("nobody", ["127.0.0.1:9"], connect_s=0.5)

    with pytest.raises(FatalError, match=r"no Hazelcast member of 'nobody' at 127\.0\.0\.1:9"):
        asyncio.run(run())
