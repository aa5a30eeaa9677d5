"""Tests of nodes.replicated: a real journal, and a map that can hang, forget and be cut off."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from common import ids
from common.errors import StoreError
from common.wire import Entry
from nodes.journal import Journal
from nodes.replicated import IN_FLIGHT_S, OLD_S, QUIET_S, Hot, ReplicatedStore
from nodes.store import Claim, MemoryStore
from scripts.ports import free_addresses
from tests.support import becomes
from tests.test_peers import Node, node, pair

LATER_MS = int(2_000 * IN_FLIGHT_S)
OLD_MS = int(2_000 * OLD_S)


class Grid(MemoryStore):
    """A map that can hang, and whose members can change."""

    def __init__(self) -> None:
        super().__init__()
        self.well = asyncio.Event()
        self.well.set()
        self.members: tuple[str, ...] = ("a",)

    async def append(self, message_id: str, text: str, key: str | None = None) -> None:
        """See Store."""
        await self._answer()
        await super().append(message_id, text, key)

    async def read(self, after: str, limit: int, **bounds: Any) -> list[Entry]:
        """See Store."""
        await self._answer()
        return await super().read(after, limit, **bounds)

    def view(self) -> tuple[str, ...]:
        """See Store."""
        return self.members

    def forget(self) -> None:
        """As a map does while it merges."""
        self.__dict__.update(MemoryStore().__dict__)

    async def _answer(self) -> None:
        try:
            await asyncio.wait_for(self.well.wait(), 0.2)
        except TimeoutError as error:
            raise StoreError("the map hangs") from error


@asynccontextmanager
async def replicated(
    found: Node,
    grid: Grid,
    *,
    now_ms: Callable[[], int] | None = None,
    clock: Callable[[], float] = time.monotonic,
    hot: Hot | None = None,
) -> AsyncIterator[ReplicatedStore]:
    """The store of a node."""
    store = ReplicatedStore(
        found.journal,
        grid,
        found.peers,
        hot=hot or Hot(),
        clock=clock,
        now_ms=now_ms or ids.now_ms,
    )
    async with store.kept():
        yield store


def later_ms() -> int:
    """When nothing that was stored until now is in flight any more."""
    return ids.now_ms() + LATER_MS


def test_a_message_is_on_disk_and_in_the_map(tmp_path: Path) -> None:
    """Both have it when it is acknowledged."""

    async def run() -> None:
        async with node(tmp_path, free_addresses(1)[0], []) as one, replicated(one, grid := Grid()) as store:
            entry = Entry(ids.new_id(), "x")
            await store.append(*entry)
            assert [entry] == await one.journal.read("", 10) == await grid.read("", 10) == await store.read("", 10)

    asyncio.run(run())


def test_while_the_map_hangs_messages_go_to_the_disks_of_all_nodes(tmp_path: Path) -> None:
    """A write waits for the map once, then no more; when the map is back, it gets what it missed."""

    async def run() -> None:
        grid = Grid()
        async with (
            pair(tmp_path) as (first, second),
            replicated(first, grid, now_ms=later_ms, clock=itertools.count(0.0, 100.0).__next__) as store,
        ):
            grid.well.clear()
            entries = [Entry(ids.new_id(), "a"), Entry(ids.new_id(), "b")]
            for entry in entries:
                await store.append(*entry)
                assert entry in await second.journal.read("", 10)
                assert entry in await store.read("", 10)
            grid.well.set()

            async def settled() -> list[Entry]:
                await store.settle()
                return await grid.read("", 10)

            await becomes(entries, settled)

    asyncio.run(run())


def test_a_read_has_what_peers_accepted_although_the_map_has_nothing(tmp_path: Path) -> None:
    """A map that merges may be empty for seconds: the journals of the peers have it all."""

    async def run() -> None:
        async with (
            pair(tmp_path) as (first, second),
            replicated(first, Grid()) as store,
        ):
            assert [await second.accept("x")] == await store.read("", 10)

    asyncio.run(run())


def test_what_only_a_dead_node_had_is_read_from_the_map_or_not_at_all(tmp_path: Path) -> None:
    """With a silent peer the map is needed: when it hangs the read fails, and never misses a message."""

    async def run() -> None:
        one, dead = free_addresses(2)
        grid = Grid()
        async with node(tmp_path, one, [dead]) as first, replicated(first, grid) as store:
            entry = Entry(ids.new_id(), "of the dead")
            await grid.append(*entry)
            assert [entry] == await store.read("", 10)
            grid.well.clear()
            with pytest.raises(StoreError, match="the map hangs"):
                await store.read("", 10)

    asyncio.run(run())


def test_what_a_dead_node_had_last_is_taken_from_the_map_before_that_node_is_believed_again(tmp_path: Path) -> None:
    """It comes back with a torn journal: until the map was asked reads need the map, then the journals have all."""

    async def run() -> None:
        grid, entry = Grid(), Entry(ids.new_id(), "x")
        one, two = free_addresses(2)
        async with node(tmp_path, one, [two]) as first, first.peers.kept(), replicated(first, grid) as store:
            async with node(tmp_path, two, [one]):
                assert [] == await store.read("", 10)
                await grid.append(*entry)
            grid.well.clear()
            await becomes(False, first.peers.fetch)
            async with node(tmp_path / "new", two, [one]):
                await becomes(True, first.peers.fetch)
                with pytest.raises(StoreError):
                    await store.read("", 10)
                grid.well.set()

                async def here() -> list[Entry]:
                    return await first.journal.read("", 10)

                async def read() -> list[Entry]:
                    with contextlib.suppress(StoreError):
                        return await store.read("", 10)
                    return []

                await becomes([entry], here)
                grid.well.clear()
                await becomes([entry], read)

    asyncio.run(run())


def test_pages_of_journal_and_map_together_are_everything(tmp_path: Path) -> None:
    """Each message comes once and in order, whether one of them has it or both."""

    async def run() -> None:
        async with node(tmp_path, free_addresses(1)[0], []) as one, replicated(one, grid := Grid()) as store:
            entries = [Entry(ids.new_id(), str(number)) for number in range(60)]
            for number, entry in enumerate(entries):
                if number % 3 != 1:
                    await one.journal.append(*entry)
                if number % 3 != 2:
                    await grid.append(*entry)
            read: list[Entry] = []
            while page := await store.read(read[-1].id if read else "", 7):
                read += page
            assert entries == read

    asyncio.run(run())


def test_journal_and_map_get_what_they_miss_when_the_members_are_quiet(tmp_path: Path) -> None:
    """Settling adds in both directions, and waits while members come and go; then old pages do not need the map."""

    async def run() -> None:
        now_s = 0.0
        grid = Grid()
        async with (
            node(tmp_path, free_addresses(1)[0], []) as one,
            replicated(one, grid, now_ms=later_ms, clock=lambda: now_s) as store,
        ):
            here, there = await one.accept("here"), Entry(ids.new_id(), "there")
            await grid.append(*there)
            await store.settle()
            now_s += QUIET_S - 1
            await store.settle()
            assert [here] == await one.journal.read("", 10)
            grid.members = ("a", "b")
            now_s += QUIET_S - 1
            await store.settle()
            now_s += QUIET_S - 1
            await store.settle()
            assert [here] == await one.journal.read("", 10)
            now_s += 1
            await store.settle()
            assert [here, there] == await one.journal.read("", 10) == await grid.read("", 10)
            grid.well.clear()
            assert [here, there] == await store.read("", 2)

    asyncio.run(run())


def test_a_node_that_starts_takes_what_the_map_has_and_fills_it_later(tmp_path: Path) -> None:
    """After all members died the map is empty, and the journals are not: also many messages, in their order."""

    async def run() -> None:
        now_s = 0.0
        async with (
            node(tmp_path, free_addresses(1)[0], []) as one,
            replicated(one, grid := Grid(), now_ms=later_ms, clock=lambda: now_s) as store,
        ):
            entries = [Entry(ids.new_id(), str(number)) for number in range(1_001)]
            await asyncio.gather(*(one.journal.append(*entry) for entry in entries[1:]))
            await grid.append(*entries[0])
            await store.recover()
            assert entries == await one.journal.read("", 2_000)
            assert entries[:1] == await grid.read("", 2_000)
            await store.settle()
            now_s += QUIET_S
            await store.settle()
            assert entries == await grid.read("", 2_000)

    asyncio.run(run())


def test_a_node_starts_although_its_peer_can_take_nothing(tmp_path: Path) -> None:
    """The peer has what is here when it can store it; its disk may be full now, which must not stop this one."""

    async def run() -> None:
        async with pair(tmp_path) as (first, second), replicated(first, Grid()) as store:
            await store.recover()
            entry = await first.accept("x")
            await store.recover()
            assert [entry] == await second.journal.read("", 10)
            await first.accept("y")
            second.journal.broken.set()
            await store.recover()
            assert [entry] == await second.journal.read("", 10)

    asyncio.run(run())


def test_one_of_the_live_nodes_fills_the_map(tmp_path: Path) -> None:
    """The first of them: all others would do the same work again."""

    async def run() -> None:
        grid = Grid()
        clock = itertools.count(0.0, 100.0).__next__
        async with (
            pair(tmp_path) as (first, second),
            replicated(first, grid, now_ms=later_ms, clock=clock) as at_first,
            replicated(second, grid, now_ms=later_ms, clock=clock) as at_second,
        ):
            entry = await first.accept("x")
            assert await first.peers.fetch()
            assert await second.peers.fetch()
            leads, follows = (at_first, at_second) if first.peers.leads() else (at_second, at_first)
            assert first.peers.leads() is not second.peers.leads()
            for _ in range(3):
                await follows.settle()
            assert [] == await grid.read("", 10)
            for _ in range(2):
                await leads.settle()
            assert [entry] == await grid.read("", 10)
            grid.forget()
            grid.members = ("another",)
            for _ in range(3):
                await leads.settle()
            assert [entry] == await grid.read("", 10)

    asyncio.run(run())


def test_a_key_is_known_although_the_map_forgot_it(tmp_path: Path) -> None:
    """The journal remembers the keys of the messages that it has, its own and those of its peers."""

    async def run() -> None:
        grid = Grid()
        async with (
            pair(tmp_path) as (first, second),
            replicated(first, grid) as at_first,
            replicated(second, grid) as at_second,
        ):
            message_id = ids.new_id()
            claim = await at_first.claim("key", message_id, "digest of x")
            assert Claim(message_id, "digest of x") == claim
            await at_first.append(message_id, "x", "key")
            grid.forget()
            assert message_id == (await at_second.claim("key", ids.new_id(), "other")).message_id

    asyncio.run(run())


def test_a_broken_journal_acknowledges_nothing(tmp_path: Path) -> None:
    """The map alone is not enough."""

    async def run() -> None:
        async with node(tmp_path, free_addresses(1)[0], []) as one, replicated(one, Grid()) as store:
            one.journal.broken.set()
            with pytest.raises(StoreError, match="the journal is broken"):
                await store.append(ids.new_id(), "x")

    asyncio.run(run())


def test_old_messages_leave_the_map_when_all_live_disks_have_them(tmp_path: Path) -> None:
    """The map keeps the newest, and what any live node still lacks; reads have everything as before."""

    async def run() -> None:
        grid = Grid()
        clock = itertools.count(0.0, 100.0).__next__
        async with (
            pair(tmp_path) as (first, second),
            replicated(first, grid, now_ms=later_ms, clock=clock, hot=Hot(messages=3)) as at_first,
            replicated(second, grid, now_ms=later_ms, clock=clock, hot=Hot(messages=3)) as at_second,
        ):
            entries = [Entry(ids.new_id(), str(number)) for number in range(10)]
            await at_first.append_all(entries)
            await grid.append_all(entries)
            assert await first.peers.fetch()
            assert await second.peers.fetch()
            for _ in range(3):
                await at_first.settle()  # the other node has not said yet what it has
            assert entries == await grid.read("", 20)
            for _ in range(3):
                await at_second.settle()
                await at_first.settle()
            assert entries[-3:] == await grid.read("", 20)
            assert entries == await at_first.read("", 20) == await at_second.read("", 20)

    asyncio.run(run())


def test_the_map_is_filled_with_no_more_than_it_keeps(tmp_path: Path) -> None:
    """An import of a million messages, or a start with them, brings the map its newest only."""

    async def run() -> None:
        clock = itertools.count(0.0, 100.0).__next__
        async with (
            node(tmp_path, free_addresses(1)[0], []) as one,
            replicated(
                one, grid := Grid(), now_ms=lambda: ids.now_ms() + OLD_MS, clock=clock, hot=Hot(messages=3)
            ) as store,
        ):
            entries = [Entry(ids.new_id(), str(number)) for number in range(10)]
            await store.append_all(entries)
            assert [] == await grid.read("", 20)
            for _ in range(2):
                await store.settle()
            assert entries[-3:] == await grid.read("", 20)
            assert entries == await store.read("", 20)

    asyncio.run(run())


def test_a_post_that_was_slow_is_in_the_map_and_on_all_disks(tmp_path: Path) -> None:
    """Posts travel together, and may have waited for nearly the whole deadline of a request: they are no import."""

    async def run() -> None:
        async with pair(tmp_path) as (first, second), replicated(first, grid := Grid()) as store:
            slow = Entry(ids.last_id(ids.now_ms() - 9_000), "slow")
            await store.append_all([slow])
            assert [slow] == await grid.read("", 10) == await second.journal.read("", 10)

    asyncio.run(run())


def test_messages_that_are_old_are_on_all_disks_and_not_in_the_map(tmp_path: Path) -> None:
    """An import does not fill the map; the peers have it when it is acknowledged."""

    async def run() -> None:
        async with (
            pair(tmp_path) as (first, second),
            replicated(first, grid := Grid()) as store,
        ):
            old, new = Entry(ids.last_id(ids.now_ms() - OLD_MS), "of two minutes ago"), Entry(ids.new_id(), "new")
            await store.append_all([old, new])
            assert [new] == await grid.read("", 10)
            assert [old, new] == await second.journal.read("", 10) == await store.read("", 10)
            assert 1 == await store.expire(old.id)
            assert [new] == await first.journal.read("", 10)

    asyncio.run(run())


def test_a_late_message_is_on_all_disks_when_it_is_acknowledged(tmp_path: Path) -> None:
    """Its id is so old that nodes may not look for news there any more: they have it, although the map took it."""

    async def run() -> None:
        async with (
            pair(tmp_path) as (first, second),
            replicated(first, Grid(), now_ms=later_ms) as store,
        ):
            late, many = Entry(ids.new_id(), "late"), Entry(ids.new_id(), "many")
            await store.append(*late)
            await store.append_all([many])
            assert [late, many] == await second.journal.read("", 10)

    asyncio.run(run())


def test_the_journal_is_believed_where_the_map_says_something_else(tmp_path: Path) -> None:
    """Another client of the map may have changed a text there: each id is read once, with its first text."""

    async def run() -> None:
        async with node(tmp_path, free_addresses(1)[0], []) as one, replicated(one, grid := Grid()) as store:
            entry = Entry(ids.new_id(), "first")
            await store.append(*entry)
            grid.forget()
            await grid.append(entry.id, "changed")
            assert [entry] == await store.read("", 10)

    asyncio.run(run())


def test_nothing_is_settled_before_every_peer_was_read_once(tmp_path: Path) -> None:
    """A node that lost its disk while its peers are down asks them before it answers, also for old messages."""

    async def run() -> None:
        one, two = free_addresses(2)
        grid = Grid()
        clock = itertools.count(0.0, 100.0).__next__
        async with node(tmp_path, one, [two]) as first, replicated(first, grid, now_ms=later_ms, clock=clock) as store:
            await first.peers.fetch()
            new = Entry(ids.new_id(), "new")
            await store.append(*new)
            await store.recover()
            for _ in range(3):
                await store.settle()
            async with node(tmp_path, two, [one]) as second, first.peers.kept():
                old = Entry("00000000-0001-7fff-bfff-ffffffffffff", "only a peer has it")
                await second.journal.keep([old])
                await becomes([old, new], lambda: store.read("", 2))

    asyncio.run(run())


def test_two_journals_are_two_names(tmp_path: Path) -> None:
    """A name stays with its file, so that peers know which numbers are whose."""
    one, two = Journal(tmp_path / "1.sqlite", "test"), Journal(tmp_path / "2.sqlite", "test")
    again = Journal(tmp_path / "1.sqlite", "test")

    assert one.name == again.name != two.name
    for journal in (one, two, again):
        journal.close()
