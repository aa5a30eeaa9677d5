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
from common.protocol.content import Entry
from common.protocol.messages import (
    TAIL_S,
    Append,
    Appended,
    Code,
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
from common.protocol.vectors import VectorEntry
from common.telemetry.request_context import RequestContext
from nodes import service
from nodes.replication.core.effects import Range
from nodes.service import CLIENT_REQUESTS, LOGGED_CHARACTERS
from nodes.storage.memory import MemoryJournal, MemoryTables
from scripts.launcher.ports import free_addresses
from tests.support.nodes.entries import bare
from tests.support.nodes.replicas import SETTINGS, RunningNode, new_journal, running, serving_registry
from tests.support.waiting import becomes

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class FaultyJournal(MemoryJournal):
    """A journal whose disk can be full, and whose reads can hang."""

    full = False
    hung = False

    def __init__(self) -> None:
        super().__init__(MemoryTables(), iter(range(1, 1_000)).__next__)
        self.asked: list[int] = []  # the limit of each read

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
    steps: Callable[[RunningNode], Awaitable[None]],
    *,
    journal: MemoryJournal | None = None,
    address: str = "",
    min_in_sync: int = 1,
) -> None:
    """Run the steps with a node that is ready."""
    address = address or free_addresses(1)[0]

    async def run(registry: str) -> None:
        settings = dataclasses.replace(SETTINGS, min_in_sync=min_in_sync)
        async with running(address, [address], [registry], journal=journal, settings=settings) as one:
            await becomes(State.READY, one.state)
            await steps(one)

    with serving_registry() as registry:
        asyncio.run(run(registry))


@asynccontextmanager
async def without_registry() -> AsyncIterator[RunningNode]:
    """A node that cannot come into sync, and whose storage is not open yet."""
    address, nobody = free_addresses(2)
    async with running(address, [address], [nobody], opened=False) as one:
        yield one


async def appended(one: RunningNode, *texts: str) -> list[Entry]:
    """Append messages at a node; the messages."""
    entries = tuple(Entry(ids.new_id(), text) for text in texts)
    assert isinstance(await one.node.handle(Append(entries=entries)), Appended)
    return list(entries)


def code_of(reply: object) -> Code:
    """The code with which a request was refused."""
    assert isinstance(reply, Failure)
    return reply.code


# States


def test_a_node_goes_through_its_states_in_order() -> None:
    """A node is starting, forming, joining, ready and leaving, and answers a ping with its state."""

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


def test_a_node_that_is_not_in_sync_refuses_clients_with_the_reason() -> None:
    """Reads, appends and followers are refused, and the report for an operator has the reason."""

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


def test_a_report_describes_the_node() -> None:
    """The report has counts of requests and messages, the in-sync set, and the times of the start and the state."""

    async def steps(one: RunningNode) -> None:
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
    """A Lookup, which is for a registry, is an invalid message."""

    async def run() -> None:
        async with without_registry() as one:
            with pytest.raises(InvalidMessageError, match="a logging node does not answer Lookup"):
                await one.node.handle(Lookup(name="x"))

    asyncio.run(run())


# Appends


def test_an_acknowledgement_has_the_place_of_the_record() -> None:
    """It names the node, its incarnation, and the sequence of the record, which counts up."""

    async def steps(one: RunningNode) -> None:
        for number in (1, 2, 3):
            message_id = ids.new_id()
            stored = await one.node.handle(Append(entries=(Entry(message_id, "a"),)))
            assert isinstance(stored, Appended)
            assert stored == Appended(
                node=one.address,
                took_ms=stored.took_ms,
                vector=(VectorEntry(one.journal.opened.incarnation, number),),
            )
            assert stored.took_ms > 0

    on(steps)


def test_a_batch_has_one_acknowledgement() -> None:
    """It has the sequence of the last message; an empty batch is acknowledged, too."""

    async def steps(one: RunningNode) -> None:
        entries = tuple(Entry(ids.new_id(), str(number)) for number in range(500))
        stored = await one.node.handle(Append(entries=entries))
        assert isinstance(stored, Appended)
        assert one.address == stored.node
        assert ((one.journal.opened.incarnation, 500),) == stored.vector
        empty = await one.node.handle(Append(entries=()))
        assert isinstance(empty, Appended)
        assert (one.address, ()) == (empty.node, empty.vector)
        assert list(entries) == bare(await one.journal.read("", 1_000))

    on(steps)


def test_a_message_that_is_sent_twice_is_stored_once() -> None:
    """The first text stays, and the second append is acknowledged as well."""

    async def steps(one: RunningNode) -> None:
        (entry,) = await appended(one, "first")
        again = await one.node.handle(Append(entries=(Entry(entry.id, "first"),)))
        assert isinstance(again, Appended)
        assert () == again.stored_as
        await one.node.handle(Append(entries=(Entry(entry.id, "second"),)))
        assert [entry] == bare(await one.journal.read("", 10))

    on(steps)


def test_each_stored_message_is_logged(logged: list[EventDict]) -> None:
    """A line has the id, the node, the beginning of the text, and the request context of the client."""

    async def steps(one: RunningNode) -> None:
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


def test_an_id_from_the_future_is_refused() -> None:
    """Such a message would stay the newest one; up to a minute is a difference between clocks."""

    async def steps(one: RunningNode) -> None:
        now_ms = ids.now_ms()
        ahead, near = (
            Entry(ids.first_id(now_ms + ids.AHEAD_MS + 30_000), "x"),
            Entry(ids.first_id(now_ms + 50_000), "x"),
        )
        for request in (Append(entries=(Entry(ahead.id, "x"),)), Append(entries=(near, ahead))):
            refused = await one.node.handle(request)
            assert isinstance(refused, Failure)
            assert Code.AHEAD is refused.code
            assert refused.reason.startswith(f"the time of id {ahead.id} is ")
            assert f"ahead of the clock of {one.address}, over the limit of 60 s: set the clocks" in refused.reason
        assert isinstance(await one.node.handle(Append(entries=(Entry(near.id, "x"),))), Appended)
        assert [near] == bare(await one.journal.read("", 10))

    on(steps)


def test_a_repeated_key_is_acknowledged_with_the_first_message() -> None:
    """Nothing is stored twice, also when the appends arrive at once."""

    async def steps(one: RunningNode) -> None:
        requests = [Append(entries=(Entry(ids.new_id(), "a", key="order-7"),)) for _ in range(20)]
        replies = await asyncio.gather(*(one.node.handle(request) for request in requests))
        ((first,),) = {reply.stored_as for reply in replies if isinstance(reply, Appended)}
        assert [Entry(first, "a")] == bare(await one.journal.read("", 10))
        assert len(replies) == sum(isinstance(reply, Appended) for reply in replies)
        late = await one.node.handle(Append(entries=(Entry(ids.new_id(), "a", key="order-7"),)))
        assert isinstance(late, Appended)
        assert (first,) == late.stored_as

    on(steps)


def test_a_message_that_retention_would_remove_is_refused() -> None:
    """Otherwise it would be acknowledged and not be there; the others of its batch are stored."""

    async def steps(one: RunningNode) -> None:
        old, _ = await appended(one, "old", "older")
        await one.journal.expire(old.id)
        late, new = Entry(ids.first_id(1), "late", key="k"), Entry(ids.new_id(), "new")
        reply = await one.node.handle(Append(entries=(late, new)))
        assert isinstance(reply, Appended)
        assert (0,) == reply.expired
        assert ["new", "older"] == await one.texts()
        contexts = (RequestContext("order-7", TRACEPARENT), RequestContext("order-8", TRACEPARENT))
        late, newer = late._replace(key=""), Entry(ids.new_id(), "newer")
        for entries, expired in (((late, newer), (0,)), ((late,), (0,)), ((newer,), ())):
            reply = await one.node.handle(Append(entries=entries, contexts=contexts[: len(entries)]))
            assert isinstance(reply, Appended)
            assert expired == reply.expired
        assert ["new", "newer", "older"] == await one.texts()

    on(steps)


@pytest.mark.parametrize("fields", ["{bad", "[]", '{"a": "b"}', '{"a":{}}', '{"a":null}', f'{{"a":"{"é" * 9_000}"}}'])
def test_fields_that_are_not_compact_json_are_refused(fields: str) -> None:
    """Every node searches them and passes them on as they are."""

    async def steps(one: RunningNode) -> None:
        with pytest.raises(InvalidMessageError, match="fields"):
            await one.node.handle(Append(entries=(Entry(ids.new_id(), "a", fields),)))
        assert [] == await one.texts()

    on(steps)


def test_a_batch_may_have_messages_with_and_without_keys() -> None:
    """Each is stored, and sent to the map, once."""

    async def steps(one: RunningNode) -> None:
        entries = tuple(Entry(ids.new_id(), str(number), key="k" if number else "") for number in range(3))
        reply = await one.node.handle(Append(entries=entries))
        assert isinstance(reply, Appended)
        assert (entries[0].id, entries[1].id) == reply.stored_as[:2]
        assert (2,) == reply.conflicts
        assert ["0", "1"] == await one.texts()

    on(steps)


def test_a_key_with_another_text_is_a_conflict() -> None:
    """The text that came with the key before stays the only one."""

    async def steps(one: RunningNode) -> None:
        await one.node.handle(Append(entries=(Entry(ids.new_id(), "a", key="order-7"),)))
        refused = await one.node.handle(Append(entries=(Entry(ids.new_id(), "b", key="order-7"),)))
        assert isinstance(refused, Appended)
        assert (0,) == refused.conflicts
        assert ["a"] == await one.texts()

    on(steps)


def test_appends_are_refused_below_min_in_sync() -> None:
    """With fewer listed replicas than min_in_sync nothing is stored, and reads are answered."""

    async def steps(one: RunningNode) -> None:
        refused = await one.node.handle(Append(entries=(Entry(ids.new_id(), "x"),)))
        assert Failure(code=Code.STARTING, reason="1 replicas are in sync, and min_in_sync is 2") == refused
        assert isinstance(await one.node.handle(Read(after="", limit=1)), Page)

    on(steps, min_in_sync=2)


def test_a_failed_commit_is_an_error_until_commits_succeed_again() -> None:
    """The outcome of that append is unknown; later ones are refused with the reason until the disk works."""
    journal = FaultyJournal()

    async def steps(one: RunningNode) -> None:
        journal.full = True
        with pytest.raises(StoreError, match="no space left on device"):
            await one.node.handle(Append(entries=(Entry(ids.new_id(), "x"),)))
        refused = await one.node.handle(Append(entries=(Entry(ids.new_id(), "x"),)))
        assert Code.STARTING is code_of(refused)
        report = await one.node.report()
        assert (1, "nothing can be written: no space left on device") == (report.failed, report.reason)
        journal.full = False

        async def stored() -> bool:
            return isinstance(
                await one.node.handle(Append(entries=(Entry(ids.new_id(), "with space again"),))), Appended
            )

        await becomes(True, stored)
        assert "" == (await one.node.report()).reason

    on(steps, journal=journal)


# Reads


def test_pages_are_complete_in_either_direction() -> None:
    """Following the cursor of each page skips and repeats nothing, within both bounds."""

    async def steps(one: RunningNode) -> None:
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
            assert (entries[49:4:-1] if newest_first else entries[5:50]) == bare(found)

    on(steps)


def test_a_page_has_the_version_vector_of_the_node() -> None:
    """A client sends the vector along with its next read, to whichever node."""

    async def steps(one: RunningNode) -> None:
        await appended(one, "a", "b", "c")
        page = await one.node.handle(Read(after="", limit=1))
        assert isinstance(page, Page)
        assert {one.journal.opened.incarnation: 3} == dict(page.vector)
        assert isinstance(await one.node.handle(Read(after="", limit=1, session=page.vector)), Page)

    on(steps)


def test_a_read_is_refused_if_the_session_has_seen_more() -> None:
    """The node answers `behind`, so that the read goes to another node."""

    async def steps(one: RunningNode) -> None:
        reply = await one.node.handle(Read(after="", limit=1, session=(VectorEntry(7, 1),)))
        behind = Failure(code=Code.BEHIND, reason=f"{one.address} has less than this session has seen")
        assert behind == reply

    on(steps)


def test_a_read_waits_briefly_for_records_its_session_has_seen() -> None:
    """A record that was acknowledged a moment ago may still be on its way to this node."""

    async def steps(one: RunningNode) -> None:
        session = (VectorEntry(one.journal.opened.incarnation, 1),)
        read = asyncio.create_task(one.node.handle(Read(after="", limit=10, session=session)))
        (entry,) = await appended(one, "on its way")
        page = await read
        assert isinstance(page, Page)
        assert [entry] == bare(page.entries)

    on(steps)


def test_the_number_of_concurrent_client_requests_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """One client more is refused as overloaded, and requests of operators, as of peers, are still answered."""
    monkeypatch.setattr(service, "STEP_S", 60.0)  # on a busy machine the first reads must not time out meanwhile
    journal = FaultyJournal()

    async def reads_begun() -> int:
        return len(journal.asked)

    async def steps(one: RunningNode) -> None:
        journal.hung = True
        reads = [asyncio.create_task(one.node.handle(Read(after="", limit=1))) for _ in range(CLIENT_REQUESTS)]
        await becomes(CLIENT_REQUESTS, reads_begun)
        assert Code.OVERLOADED is code_of(await one.node.handle(Read(after="", limit=1)))
        assert isinstance(await one.node.handle(Inspect()), Report)
        for read in reads:
            read.cancel()
        assert CLIENT_REQUESTS == len(await asyncio.gather(*reads, return_exceptions=True))
        journal.hung = False
        assert isinstance(await one.node.handle(Read(after="", limit=1)), Page)

    on(steps, journal=journal)


def test_a_read_that_hangs_fails_before_the_client_times_out() -> None:
    """The error says how long the read took, and the report counts it as failed."""
    journal = FaultyJournal()

    async def steps(one: RunningNode) -> None:
        journal.hung = True
        with pytest.raises(StoreError, match=r"read took over 0\.9 s"):
            await one.node.handle(Read(after="", limit=1))
        assert 1 == (await one.node.report()).failed

    on(steps, journal=journal)


def test_recent_messages_are_newest_first_and_limited() -> None:
    """They are limited by age and by number, since the map is filled with them."""

    async def steps(one: RunningNode) -> None:
        old = Entry(ids.first_id(ids.now_ms() - 120_000), "old")
        await one.journal.repair([old])
        entries = [*await appended(one, *map(str, range(1_000))), *await appended(one, *map(str, range(500)))]
        assert entries[::-1] == bare([entry async for entry in one.node.recent(1.0, 5_000)])
        assert entries[:-1_201:-1] == bare([entry async for entry in one.node.recent(1.0, 1_200)])
        assert [*entries[::-1], old] == bare([entry async for entry in one.node.recent(10.0, 5_000)])

    on(steps)


# Followers


def test_a_follower_begins_at_the_end_of_the_log() -> None:
    """A follower that does not know the journal gets its name and its last number, and no messages."""

    async def steps(one: RunningNode) -> None:
        await appended(one, "a", "b")
        tailed = await one.node.handle(Tail(journal="", after=0))
        assert Tailed(journal=one.journal.name, entries=(), next=2, more=False, node=one.address) == tailed

    on(steps)


def test_a_follower_gets_a_message_as_soon_as_it_is_stored() -> None:
    """The long poll waits for a message, and returns it with the node that accepted it."""

    async def steps(one: RunningNode) -> None:
        waiting = asyncio.create_task(one.node.handle(Tail(journal=one.journal.name, after=0)))
        entries = await appended(one, "a", "b")
        async with asyncio.timeout(TAIL_S / 2):
            tailed = await waiting
        assert isinstance(tailed, Tailed)
        assert (entries, 2, False) == (bare(tailed.entries), tailed.next, tailed.more)
        assert [one.address] * 2 == [entry.node for entry in tailed.entries]

    on(steps)


def test_a_long_poll_without_a_message_ends_after_a_second() -> None:
    """Both sides learn that the other one is alive, and the follower continues from the same number."""

    async def steps(one: RunningNode) -> None:
        await appended(one, "a")
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        tailed = await one.node.handle(Tail(journal=one.journal.name, after=1))
        assert Tailed(journal=one.journal.name, entries=(), next=1, more=False, node=one.address) == tailed
        assert TAIL_S - 0.05 < loop.time() - began_s < TAIL_S + 5.0

    on(steps)


def test_a_follower_that_is_far_behind_gets_a_page_at_a_time() -> None:
    """Each page says that there is more, except the last one."""

    async def steps(one: RunningNode) -> None:
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
        assert (entries, 2_001) == (bare(found), reached)

    on(steps)


def test_a_restarted_node_has_a_new_incarnation() -> None:
    """Its messages are still there, and the sequence of new ones begins at one again."""
    tables = MemoryTables()
    origins: list[tuple[int, int]] = []

    async def steps(one: RunningNode) -> None:
        stored = await one.node.handle(Append(entries=(Entry(ids.new_id(), "x"),)))
        assert isinstance(stored, Appended)
        origins.extend(stored.vector)
        assert ["x"] * len(origins) == await one.texts()

    (address,) = free_addresses(1)
    for _ in range(2):
        on(steps, journal=new_journal(tables), address=address)
    assert 2 == len({origin for origin, _ in origins})
    assert [1, 1] == [sequence for _, sequence in origins]
