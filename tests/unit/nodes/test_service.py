"""Tests of nodes.service: a logging node with a journal in memory, real sockets and a real registry."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from structlog.typing import EventDict

from common import ids
from common.errors import InvalidMessageError, StoreError
from common.protocol.admin import Inspect, Report
from common.protocol.codec import Request
from common.protocol.messages import (
    MESSAGE_BYTES,
    PAGE_BYTES,
    TAIL_S,
    Append,
    Appended,
    Code,
    Entry,
    Failure,
    Lookup,
    Page,
    Ping,
    Read,
    State,
    Status,
    Tail,
    Tailed,
)
from common.protocol.replication import InSyncSet
from common.telemetry.request_context import RequestContext
from nodes.append_failures import AHEAD_MS
from nodes.reader import FIRST_CHUNK, read_page
from nodes.replication.core.effects import Range
from nodes.service import CLIENT_REQUESTS, LOGGED_CHARACTERS
from nodes.storage.memory import MemoryJournal, MemoryTables
from scripts.launcher.ports import free_addresses
from tests.support.replicas import SETTINGS, Running, new_journal, running, serving_registry
from tests.support.waiting import becomes

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Disk(MemoryJournal):
    """A journal that can be full, and can hang."""

    full = False
    hung = False

    def __init__(self) -> None:
        super().__init__(MemoryTables(), iter(range(1, 1_000)).__next__)
        self.asked: list[int] = []  # how many messages each read was to return

    async def commit(self, ranges: Sequence[Range], in_sync: InSyncSet | None) -> None:
        """See Journal."""
        if self.full:
            raise StoreError("no space left on device")
        await super().commit(ranges, in_sync)

    async def new_incarnation(self) -> int:
        """See Journal."""
        if self.full:
            raise StoreError("no space left on device")
        return await super().new_incarnation()

    async def read(self, after: str, limit: int, *, before: str = "", newest_first: bool = False) -> list[Entry]:
        """See Journal."""
        self.asked.append(limit)
        if self.hung:
            await asyncio.Event().wait()
        return await super().read(after, limit, before=before, newest_first=newest_first)


def on(
    steps: Callable[[Running], Awaitable[None]],
    *,
    journal: MemoryJournal | None = None,
    address: str = "",
    min_in_sync: int = 1,
) -> None:
    """Take the steps with a node that is ready."""
    address = address or free_addresses(1)[0]

    async def run(registry: str) -> None:
        settings = dataclasses.replace(SETTINGS, min_in_sync=min_in_sync)
        async with running(address, [address], [registry], journal=journal, settings=settings) as one:
            await becomes(State.READY, one.state)
            await steps(one)

    with serving_registry() as registry:
        asyncio.run(run(registry))


@asynccontextmanager
async def without_registry() -> AsyncIterator[Running]:
    """A node that cannot be in sync, and whose storage is not open yet."""
    address, nobody = free_addresses(2)
    async with running(address, [address], [nobody], opened=False) as one:
        yield one


async def appended(one: Running, *texts: str) -> list[Entry]:
    """Messages that a node has stored."""
    entries = tuple(Entry(ids.new_id(), text) for text in texts)
    assert isinstance(await one.node.handle(Append(entries=entries)), Appended)
    return list(entries)


def code_of(reply: object) -> Code:
    """Why a request was refused."""
    assert isinstance(reply, Failure)
    return reply.code


# What a node can do


def test_a_node_goes_through_its_states_in_order() -> None:
    """Its member starts, it waits for the others, joins, is ready, and leaves: a ping tells which it is."""

    async def run(registry: str) -> None:
        (address,) = free_addresses(1)
        async with running(address, [address], [registry], opened=False) as one:
            assert Status(service="logging-service", state=State.STARTING) == await one.node.handle(Ping())
            one.node.forming()
            assert State.FORMING is await one.state()
            assert not one.node.is_open
            one.node.opened()
            assert one.node.is_open
            assert State.JOINING is await one.state()
            await becomes(State.READY, one.state)
            report = await one.node.report()
            assert State.READY is report.state
            one.node.leave()
            assert State.LEAVING is await one.state()
            assert Code.STARTING is code_of(await one.node.handle(Read(after="", limit=1)))

    with serving_registry() as registry:
        asyncio.run(run(registry))


def test_a_node_that_is_not_in_sync_does_nothing_and_says_what_it_waits_for() -> None:
    """Reads, writes and followers are sent to another node; an operator finds the reason in the report."""

    async def run() -> None:
        async with without_registry() as one:
            requests: list[Request] = [
                Append(entries=(Entry(ids.new_id(), "x"),)),
                Append(entries=(Entry(ids.new_id(), "x"),)),
                Read(after="", limit=1),
                Tail(journal="", after=0),
            ]
            for request in requests:
                refused = Failure(code=Code.STARTING, reason=f"logging node {one.address} is starting")
                assert refused == await one.node.handle(request)
            one.node.opened()
            report = await one.node.handle(Inspect())
            assert isinstance(report, Report)
            assert (State.JOINING, "no registry has answered yet") == (report.state, report.reason)
            assert [] == await one.texts()

    asyncio.run(run())


def test_a_report_tells_how_the_node_is() -> None:
    """What it served, what it has, with whom it is in sync, and since when."""

    async def steps(one: Running) -> None:
        before_ms = ids.now_ms()
        await appended(one, "a", "b")
        await one.node.handle(Read(after="", limit=10))
        report = await one.node.report()
        assert ("logging-service", State.READY, "embedded") == (report.service, report.state, report.engine)
        assert (2, 0, 2) == (report.served, report.failed, report.messages)
        assert ((one.address,), 0, "") == (report.in_sync, report.unconfirmed, report.reason)
        assert report.term > 0
        assert 0 < report.started_ms < report.since_ms <= before_ms
        assert ((), -1, "") == (report.members, report.entries, report.own_member)
        assert one.node.repairs_map()

    on(steps)


def test_a_request_for_another_service_is_refused() -> None:
    """A logging node is no registry."""

    async def run() -> None:
        async with without_registry() as one:
            with pytest.raises(InvalidMessageError, match="a logging node does not answer Lookup"):
                await one.node.handle(Lookup(name="x"))

    asyncio.run(run())


# Appends


def test_a_stored_message_is_told_with_its_place_in_the_log() -> None:
    """The node, its incarnation, and the number of the record in it, which counts up."""

    async def steps(one: Running) -> None:
        for number in (1, 2, 3):
            message_id = ids.new_id()
            stored = await one.node.handle(Append(entries=(Entry(message_id, "a"),)))
            assert isinstance(stored, Appended)
            assert stored == Appended(
                node=one.address,
                took_ms=stored.took_ms,
                origin=one.journal.opened.incarnation,
                sequence=number,
            )
            assert stored.took_ms > 0

    on(steps)


def test_many_messages_are_stored_at_once() -> None:
    """They get one reply, with the number of the last; none at all is fine, too."""

    async def steps(one: Running) -> None:
        entries = tuple(Entry(ids.new_id(), str(number)) for number in range(500))
        stored = await one.node.handle(Append(entries=entries))
        assert isinstance(stored, Appended)
        assert one.address == stored.node
        assert (one.journal.opened.incarnation, 500) == (stored.origin, stored.sequence)
        assert Appended(node=one.address) == await one.node.handle(Append(entries=()))
        assert list(entries) == await one.journal.read("", 1_000)

    on(steps)


def test_a_message_that_comes_twice_is_stored_once() -> None:
    """The first text stays, and the client gets the same answer."""

    async def steps(one: Running) -> None:
        (entry,) = await appended(one, "first")
        again = await one.node.handle(Append(entries=(Entry(entry.id, "first"),)))
        assert isinstance(again, Appended)
        assert "" == again.stored_as
        await one.node.handle(Append(entries=(Entry(entry.id, "second"),)))
        assert [entry] == await one.journal.read("", 10)

    on(steps)


def test_each_message_is_one_line_of_the_log(logged: list[EventDict]) -> None:
    """With id, node and the begin of its text; those of several clients with the request that each came with."""

    async def steps(one: Running) -> None:
        entry, other = Entry(ids.new_id(), "one\ntwo " + "x" * 1_000), Entry(ids.new_id(), "another")
        await one.node.handle(Append(entries=(Entry(entry.id, entry.msg),)))
        contexts = (RequestContext("order-7", TRACEPARENT), RequestContext("order-8", TRACEPARENT))
        await one.node.handle(Append(entries=(entry, other), contexts=contexts))
        lines = [line for line in logged if line["event"] == "stored"]
        assert [entry.id, entry.id, other.id] == [line["id"] for line in lines]
        assert {one.address} == {line["node"] for line in lines}
        assert [entry.msg[:LOGGED_CHARACTERS]] * 2 == [line["msg"] for line in lines[:2]]
        assert ["order-7", "order-8"] == [line["request_id"] for line in lines[1:]]
        await one.node.handle(Append(entries=(entry, other)))
        (batch,) = [line for line in logged if line.get("messages")]
        assert (2, entry.id) == (batch["messages"], batch["first"])

    on(steps)


def test_an_id_from_the_future_is_refused_with_a_sentence() -> None:
    """It would stay the newest message until then; up to a minute is a difference of clocks."""

    async def steps(one: Running) -> None:
        now_ms = ids.now_ms()
        ahead, near = Entry(ids.first_id(now_ms + AHEAD_MS + 30_000), "x"), Entry(ids.first_id(now_ms + 50_000), "x")
        for request in (Append(entries=(Entry(ahead.id, "x"),)), Append(entries=(near, ahead))):
            refused = await one.node.handle(request)
            assert isinstance(refused, Failure)
            assert Code.AHEAD is refused.code
            assert refused.reason.startswith(f"the time of id {ahead.id} is ")
            assert f"ahead of the clock of {one.address}, over the limit of 60 s: set the clocks" in refused.reason
        assert isinstance(await one.node.handle(Append(entries=(Entry(near.id, "x"),))), Appended)
        assert [near] == await one.journal.read("", 10)

    on(steps)


def test_a_key_that_comes_again_is_answered_with_the_first_message() -> None:
    """Also when both come at once; nothing is stored twice."""

    async def steps(one: Running) -> None:
        requests = [Append(entries=(Entry(ids.new_id(), "a"),), key="order-7") for _ in range(20)]
        replies = await asyncio.gather(*(one.node.handle(request) for request in requests))
        (first,) = {reply.stored_as for reply in replies if isinstance(reply, Appended)}
        assert [Entry(first, "a")] == await one.journal.read("", 10)
        assert len(replies) == sum(isinstance(reply, Appended) for reply in replies)
        late = await one.node.handle(Append(entries=(Entry(ids.new_id(), "a"),), key="order-7"))
        assert isinstance(late, Appended)
        assert first == late.stored_as

    on(steps)


def test_a_key_with_another_text_is_a_conflict() -> None:
    """Nothing is stored, and nothing ever will be."""

    async def steps(one: Running) -> None:
        await one.node.handle(Append(entries=(Entry(ids.new_id(), "a"),), key="order-7"))
        refused = await one.node.handle(Append(entries=(Entry(ids.new_id(), "b"),), key="order-7"))
        conflict = Failure(code=Code.CONFLICT, reason="this idempotency key came with another text before")
        assert conflict == refused
        assert ["a"] == await one.texts()

    on(steps)


def test_fewer_replicas_than_wanted_are_no_place_to_write() -> None:
    """With min_in_sync above those that are listed nothing is stored; reads go on."""

    async def steps(one: Running) -> None:
        refused = await one.node.handle(Append(entries=(Entry(ids.new_id(), "x"),)))
        assert Failure(code=Code.STARTING, reason="1 replicas are in sync, and min_in_sync is 2") == refused
        assert isinstance(await one.node.handle(Read(after="", limit=1)), Page)

    on(steps, min_in_sync=2)


def test_a_commit_that_failed_is_an_error_and_the_report_says_why() -> None:
    """The message may be stored elsewhere, so the client may send it again; then nothing is taken until it works."""
    disk = Disk()

    async def steps(one: Running) -> None:
        disk.full = True
        with pytest.raises(StoreError, match="no space left on device"):
            await one.node.handle(Append(entries=(Entry(ids.new_id(), "x"),)))
        refused = await one.node.handle(Append(entries=(Entry(ids.new_id(), "x"),)))
        assert Code.STARTING is code_of(refused)
        report = await one.node.report()
        assert (1, "nothing can be written: no space left on device") == (report.failed, report.reason)
        disk.full = False

        async def stored() -> bool:
            return isinstance(
                await one.node.handle(Append(entries=(Entry(ids.new_id(), "with space again"),))), Appended
            )

        await becomes(True, stored)
        assert "" == (await one.node.report()).reason

    on(steps, journal=disk)


# Reads


@pytest.mark.parametrize("count", [0, 1, FIRST_CHUNK - 1, FIRST_CHUNK, FIRST_CHUNK + 1, 500])
def test_a_full_page_tells_where_to_go_on(count: int) -> None:
    """A page that reached its limit has a cursor, a shorter one is the last, whatever the chunks."""

    async def run() -> None:
        disk, entries = await filled(["x"] * count)
        assert (entries, None) == await read_page(disk, Read(after="", limit=count + 1))
        assert (entries[::-1], None) == await read_page(disk, Read(after="", limit=count + 1, newest_first=True))
        if count:
            assert (entries, entries[-1].id) == await read_page(disk, Read(after="", limit=count))

    asyncio.run(run())


def test_large_texts_end_a_page_early_and_are_not_read_in_vain() -> None:
    """A page ends after the text that reaches its limit in bytes; hardly more than the page is read for it."""

    async def run() -> None:
        disk, entries = await filled(["é" * (MESSAGE_BYTES // 2)] * 500)
        fit = PAGE_BYTES // MESSAGE_BYTES
        assert (entries[:fit], entries[fit - 1].id) == await read_page(disk, Read(after="", limit=1_000))
        assert [FIRST_CHUNK] == disk.asked

        disk, entries = await filled(["x" * 5_000] * 1_000)
        found, _ = await read_page(disk, Read(after="", limit=1_000))
        assert PAGE_BYTES // 5_000 + 1 == len(found)
        assert sum(disk.asked) <= len(found) + 1

    asyncio.run(run())


async def filled(texts: list[str]) -> tuple[Disk, list[Entry]]:
    """A journal with these texts, and its entries."""
    disk, entries = Disk(), [Entry(ids.new_id(), text) for text in texts]
    await disk.repair(entries)
    return disk, entries


def test_pages_together_are_everything_in_either_direction() -> None:
    """Reading on from the cursor of each page skips and repeats nothing, within both bounds."""

    async def steps(one: Running) -> None:
        entries = await appended(one, *map(str, range(60)))
        for newest_first in (False, True):
            found: list[Entry] = []
            after, before = entries[4].id, entries[50].id
            while True:
                page = await one.node.handle(Read(after=after, before=before, limit=7, newest_first=newest_first))
                assert isinstance(page, Page)
                found += page.entries
                if page.next is None:
                    break
                after, before = (after, page.next) if newest_first else (page.next, before)
            assert (entries[49:4:-1] if newest_first else entries[5:50]) == found

    on(steps)


def test_a_page_tells_what_the_node_had() -> None:
    """The vector that a client brings along with its next read, to whichever node."""

    async def steps(one: Running) -> None:
        await appended(one, "a", "b", "c")
        page = await one.node.handle(Read(after="", limit=1))
        assert isinstance(page, Page)
        assert {one.journal.opened.incarnation: 3} == dict(page.vector)
        assert isinstance(await one.node.handle(Read(after="", limit=1, session=page.vector)), Page)

    on(steps)


def test_a_node_that_has_less_than_a_session_has_seen_says_so() -> None:
    """Nothing is read: another node has it."""

    async def steps(one: Running) -> None:
        reply = await one.node.handle(Read(after="", limit=1, session=((7, 1),)))  # type: ignore[arg-type]
        behind = Failure(code=Code.BEHIND, reason=f"{one.address} has less than this session has seen")
        assert behind == reply

    on(steps)


def test_a_read_waits_a_moment_for_what_its_session_has_seen() -> None:
    """What the client was told a moment ago is on its way."""

    async def steps(one: Running) -> None:
        session = ((one.journal.opened.incarnation, 1),)
        read = asyncio.create_task(one.node.handle(Read(after="", limit=10, session=session)))  # type: ignore[arg-type]
        (entry,) = await appended(one, "on its way")
        page = await read
        assert isinstance(page, Page)
        assert (entry,) == page.entries

    on(steps)


def test_a_flood_of_clients_leaves_room_for_peers() -> None:
    """Above a number of requests at once the next client is refused; an operator, as a peer, still gets an answer."""
    disk = Disk()

    async def reads_begun() -> int:
        return len(disk.asked)

    async def steps(one: Running) -> None:
        disk.hung = True
        reads = [asyncio.create_task(one.node.handle(Read(after="", limit=1))) for _ in range(CLIENT_REQUESTS)]
        await becomes(CLIENT_REQUESTS, reads_begun)
        assert Code.OVERLOADED is code_of(await one.node.handle(Read(after="", limit=1)))
        assert isinstance(await one.node.handle(Inspect()), Report)
        for read in reads:
            read.cancel()
        assert CLIENT_REQUESTS == len(await asyncio.gather(*reads, return_exceptions=True))
        disk.hung = False
        assert isinstance(await one.node.handle(Read(after="", limit=1)), Page)

    on(steps, journal=disk)


def test_a_read_that_hangs_is_an_error_before_its_client_gives_up() -> None:
    """The node says why; it counts that as failed."""
    disk = Disk()

    async def steps(one: Running) -> None:
        disk.hung = True
        with pytest.raises(StoreError, match=r"read took over 0\.9 s"):
            await one.node.handle(Read(after="", limit=1))
        assert 1 == (await one.node.report()).failed

    on(steps, journal=disk)


def test_the_recent_messages_are_read_from_the_newest_on() -> None:
    """Within an age, and as many as are wanted: the map is filled with them."""

    async def steps(one: Running) -> None:
        old = Entry(ids.first_id(ids.now_ms() - 120_000), "old")
        await one.journal.repair([old])
        entries = [*await appended(one, *map(str, range(1_000))), *await appended(one, *map(str, range(500)))]
        assert entries[::-1] == [entry async for entry in one.node.recent(1.0, 5_000)]
        assert entries[:-1_201:-1] == [entry async for entry in one.node.recent(1.0, 1_200)]
        assert [*entries[::-1], old] == [entry async for entry in one.node.recent(10.0, 5_000)]

    on(steps)


# Followers


def test_a_follower_begins_at_the_end_of_the_log() -> None:
    """Who does not know this journal gets its name and its last number, and no messages."""

    async def steps(one: Running) -> None:
        await appended(one, "a", "b")
        tailed = await one.node.handle(Tail(journal="", after=0))
        assert Tailed(journal=one.journal.name, entries=(), next=2, more=False, node=one.address) == tailed

    on(steps)


def test_a_follower_gets_a_message_as_soon_as_it_is_stored() -> None:
    """The request waits for it; it comes with the node that accepted it."""

    async def steps(one: Running) -> None:
        waiting = asyncio.create_task(one.node.handle(Tail(journal=one.journal.name, after=0)))
        entries = await appended(one, "a", "b")
        async with asyncio.timeout(TAIL_S / 2):
            tailed = await waiting
        assert isinstance(tailed, Tailed)
        assert (tuple(entries), 2, False) == (tailed.entries, tailed.next, tailed.more)
        assert (one.address,) * 2 == tailed.nodes

    on(steps)


def test_a_follower_is_answered_when_nothing_comes_for_a_second() -> None:
    """So that both sides know that the other one is there; it goes on from the same number."""

    async def steps(one: Running) -> None:
        await appended(one, "a")
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        tailed = await one.node.handle(Tail(journal=one.journal.name, after=1))
        assert Tailed(journal=one.journal.name, entries=(), next=1, more=False, node=one.address) == tailed
        assert TAIL_S - 0.05 < loop.time() - began_s < TAIL_S + 0.5

    on(steps)


def test_a_follower_that_is_far_behind_gets_a_page_at_a_time() -> None:
    """Each page says that there is more, until the last one."""

    async def steps(one: Running) -> None:
        entries = [
            *await appended(one, *["x"] * 1_000),
            *await appended(one, *["y"] * 1_000),
            *await appended(one, "z"),
        ]
        found: list[Entry] = []
        reached, more = 0, True
        while more:
            tailed = await one.node.handle(Tail(journal=one.journal.name, after=reached))
            assert isinstance(tailed, Tailed)
            assert len(tailed.entries) <= 1_000
            found += tailed.entries
            reached, more = tailed.next, tailed.more
        assert (entries, 2_001) == (found, reached)

    on(steps)


def test_a_journal_that_is_opened_again_has_another_incarnation() -> None:
    """Its messages are still there, and new ones are numbered from one again."""
    tables = MemoryTables()
    origins: list[tuple[int, int]] = []

    async def steps(one: Running) -> None:
        stored = await one.node.handle(Append(entries=(Entry(ids.new_id(), "x"),)))
        assert isinstance(stored, Appended)
        origins.append((stored.origin, stored.sequence))
        assert ["x"] * len(origins) == await one.texts()

    (address,) = free_addresses(1)
    for _ in range(2):
        on(steps, journal=new_journal(tables), address=address)
    assert 2 == len({origin for origin, _ in origins})
    assert [1, 1] == [sequence for _, sequence in origins]
