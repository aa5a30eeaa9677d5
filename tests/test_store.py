"""The contract of a store, on all of them: twin, journal, map of a real cluster, and journal with a map."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from common import ids
from common.wire import Entry
from nodes.grid import HazelcastStore
from nodes.journal import Journal
from nodes.replicated import ReplicatedStore
from nodes.store import Claim, Half, MemoryStore, Store
from tests.test_peers import node

Opening = Callable[[], AbstractAsyncContextManager[Store]]


@pytest.fixture(params=["memory", "journal", "hazelcast", "replicated"])
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Opening:
    """Opens a store; on the shared cluster other tests may have stored messages, all before now."""

    @asynccontextmanager
    async def memory() -> AsyncIterator[Store]:
        yield MemoryStore()

    @asynccontextmanager
    async def journal() -> AsyncIterator[Store]:
        store = Journal(tmp_path / "messages.sqlite", "test")
        try:
            yield store
        finally:
            store.close()

    @asynccontextmanager
    async def replicated() -> AsyncIterator[Store]:
        async with node(tmp_path, "127.0.0.1:*", []) as one:
            yield ReplicatedStore(one.journal, MemoryStore(), one.peers)

    if request.param != "hazelcast":
        return {"memory": memory, "journal": journal, "replicated": replicated}[request.param]
    settings = request.getfixturevalue("cluster").settings.hazelcast

    @asynccontextmanager
    async def hazelcast() -> AsyncIterator[Store]:
        store = await HazelcastStore.connect(settings.cluster_name, settings.clients)
        try:
            yield store
        finally:
            await store.close()

    return hazelcast


def made(count: int) -> list[Entry]:
    """New entries in the order of their ids."""
    return [Entry(ids.new_id(), f'text {number} "é" \n\x00 😀') for number in range(count)]


async def fill(store: Store, entries: list[Entry]) -> None:
    """Append all, many at once."""
    for begin in range(0, len(entries), 100):
        await asyncio.gather(*(store.append(*entry) for entry in entries[begin : begin + 100]))


def test_what_is_appended_is_read_in_id_order(opening: Opening) -> None:
    """Whatever the order of the appends, reads are in the order of the ids, and texts are whole."""

    async def run() -> None:
        async with opening() as store:
            before, *entries = made(51)
            await fill(store, list(reversed(entries)))
            assert entries == await store.read(before.id, 100)
            assert entries[:7] == await store.read(before.id, 7)
            assert entries[8:20] == await store.read(entries[7].id, 12)
            assert [] == await store.read(entries[-1].id, 100)

    asyncio.run(run())


@pytest.mark.parametrize("opening", ["memory", "journal", "hazelcast"], indirect=True)
def test_ids_are_those_of_what_is_read(opening: Callable[[], AbstractAsyncContextManager[Half]]) -> None:
    """In their order, as many as are wanted, also what came in one millisecond."""

    async def run() -> None:
        async with opening() as store:
            before, *entries = made(301)
            await store.append_all(list(reversed(entries)))
            expected = [entry.id for entry in entries]
            assert expected == await store.ids(before.id, 1_000)
            assert expected[:7] == await store.ids(before.id, 7)
            assert expected[8:20] == await store.ids(expected[7], 12)
            assert [] == await store.ids(expected[-1], 100)

    asyncio.run(run())


def test_a_range_is_read_from_either_end(opening: Opening) -> None:
    """Both bounds are left out; from the newest on it is the same messages, the last first."""

    async def run() -> None:
        async with opening() as store:
            before, *entries = made(51)
            await fill(store, entries)
            after, until = entries[7].id, entries[30].id
            assert entries[8:30] == await store.read(after, 100, before=until)
            assert entries[8:11] == await store.read(after, 3, before=until)
            assert entries[29:7:-1] == await store.read(after, 100, before=until, newest_first=True)
            assert entries[29:26:-1] == await store.read(after, 3, before=until, newest_first=True)
            assert entries[::-1] == await store.read(before.id, 100, before=ids.new_id(), newest_first=True)
            assert entries[:44:-1] == await store.read("", 5, before=ids.new_id(), newest_first=True)
            assert [] == await store.read(after, 100, before=entries[8].id)

    asyncio.run(run())


def test_the_newest_of_many_that_came_together_are_read(opening: Opening) -> None:
    """However many there are within a short time, and within one millisecond."""

    async def run() -> None:
        async with opening() as store:
            begin_ms = ids.now_ms() - 50_000
            entries = [
                Entry(f"{ids.last_id(begin_ms + number // 250)[:14]}7fff-bfff-{number:012d}", "x")
                for number in range(750)
            ]
            await store.append_all(entries)
            after, before, read = ids.last_id(begin_ms - 1), ids.first_id(begin_ms + 1_000), list[Entry]()
            assert entries[:-6:-1] == await store.read(after, 5, before=before, newest_first=True)
            while page := await store.read(after, 50, before=before, newest_first=True):
                read += page
                before = page[-1].id
            assert entries[::-1] == read

    asyncio.run(run())


def test_what_is_stored_can_be_followed(tmp_path: Path) -> None:
    """The tail of a journal has everything in the order in which it came, whatever its ids."""

    async def run() -> None:
        entries = made(30)
        with contextlib.closing(Journal(tmp_path / "x.sqlite", "test")) as journal:
            for store in (journal, MemoryStore()):
                start = await store.tail("", 0)
                assert ((), 0, False) == (start.records, start.next, start.more)
                for entry in reversed(entries):
                    await store.append(*entry)
                found = await store.tail(start.journal, start.next)
                assert [*reversed(entries)] == [Entry(record.id, record.msg) for record in found.records]
                assert 30 == (await store.tail("another", 7)).next
                assert () == (await store.tail(start.journal, found.next)).records

    asyncio.run(run())


def test_an_id_is_stored_once(opening: Opening) -> None:
    """A second append of an id changes nothing, also when both run at once."""

    async def run() -> None:
        async with opening() as store:
            before, entry = made(2)
            await asyncio.gather(*(store.append(*entry) for _ in range(20)))
            await store.append(entry.id, "another text")
            assert [entry] == await store.read(before.id, 100)

    asyncio.run(run())


def test_many_are_stored_at_one_go(opening: Opening) -> None:
    """What is there already stays as it is."""

    async def run() -> None:
        async with opening() as store:
            before, *entries = made(30)
            await store.append(*entries[7])
            await store.append_all(entries)
            assert entries == await store.read(before.id, 100)

    asyncio.run(run())


def test_a_key_belongs_to_who_came_first(opening: Opening) -> None:
    """Of many claims of one key at once one wins, and all are told which."""

    async def run() -> None:
        async with opening() as store:
            key, first = ids.new_id(), made(20)
            claims = await asyncio.gather(*(store.claim(key, entry.id, f"digest-{entry.id}") for entry in first))
            assert 1 == len(set(claims))
            assert claims[0].digest == f"digest-{claims[0].message_id}"
            assert claims[0] == await store.claim(key, ids.new_id(), "late")
            assert Claim(first[1].id, "x") == await store.claim(key + "-other", first[1].id, "x")

    asyncio.run(run())


def test_pages_together_are_everything(opening: Opening) -> None:
    """Reading on from the last id of each page skips and repeats nothing, whatever the gaps in time."""

    async def run() -> None:
        async with opening() as store:
            now_ms = ids.now_ms()
            times_ms = [now_ms + offset for offset in (1, 2, 3, 500, 60_000, 60_001, 86_400_000)]  # clocks may be ahead
            entries = [
                Entry(f"{ids.last_id(at_ms)[:14]}7fff-bfff-{number:012d}", "x") for number, at_ms in enumerate(times_ms)
            ]
            await fill(store, entries)
            read: list[Entry] = []
            while page := await store.read(read[-1].id if read else ids.last_id(now_ms), 2):
                read += page
            assert entries == [entry for entry in read if entry in entries]
            assert sorted(set(read)) == read

    asyncio.run(run())


def test_the_first_page_begins_with_the_oldest(opening: Opening) -> None:
    """Without a cursor reading begins before everything."""

    async def run() -> None:
        async with opening() as store:
            oldest = Entry("00000000-0001-7fff-bfff-ffffffffffff", "from 1970")
            await store.append(*oldest)
            await fill(store, made(5))
            assert oldest == (await store.read("", 3))[0]

    asyncio.run(run())
