"""Tests of nodes.replication.runtime: three replicas in one event loop, over real sockets, with a real registry."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from common import ids
from common.errors import StoreError
from common.protocol.content import Entry
from common.protocol.messages import Append, Appended
from common.protocol.replication import InSyncSet
from nodes.replication.core.effects import AppendOutcome, Range
from nodes.replication.core.machine import Core, PeerRequest
from nodes.storage.memory import MemoryJournal, MemoryTables
from scripts.launcher.ports import free_addresses
from tests.support.nodes.replicas import RunningNode, new_journal, running, serving_registry


@asynccontextmanager
async def three(registry: str, **first: Any) -> AsyncIterator[tuple[RunningNode, RunningNode, RunningNode]]:
    """Three replicas that are in sync with each other; `first` has options of `running` for the first one."""
    addresses = free_addresses(3)
    async with contextlib.AsyncExitStack() as stack:
        found = [
            await stack.enter_async_context(running(one, addresses, [registry], **(first if number == 0 else {})))
            for number, one in enumerate(addresses)
        ]
        for one in found:
            await one.serves_among(addresses)
        yield found[0], found[1], found[2]


async def append(one: RunningNode, *texts: str) -> AppendOutcome:
    """Append messages at a replica; the outcome."""
    finish = await one.replicator.append([Entry(ids.new_id(), text) for text in texts])
    return finish.outcome


async def all_have(replicas: Sequence[RunningNode], texts: Sequence[str]) -> None:
    """Return when the journal of each replica has exactly these texts."""
    for one in replicas:
        await one.has(texts)


def test_replicas_that_start_together_form_one_in_sync_set() -> None:
    """Three replicas that start at once list the same members in the same term, and serve."""

    async def run(registry: str) -> None:
        async with three(registry) as (first, second, third):
            reports = [await one.node.report() for one in (first, second, third)]
            assert 1 == len({(report.term, report.in_sync) for report in reports})
            assert sorted(one.address for one in (first, second, third)) == list(reports[0].in_sync)

    with serving_registry() as registry:
        asyncio.run(run(registry))


def test_a_record_is_in_every_journal_when_it_is_acknowledged() -> None:
    """Any replica may accept it, also while the others accept records at the same time."""

    async def run(registry: str) -> None:
        async with three(registry) as replicas:
            for number, one in enumerate(replicas):
                assert AppendOutcome.STORED is await append(one, f"text {number}")
                assert [f"text {number}"] * 3 == [(await other.texts())[-1] for other in replicas]
            many = [append(one, *(f"{one.address} {number}" for number in range(200))) for one in replicas]
            assert [AppendOutcome.STORED] * 3 == await asyncio.gather(*many)
            assert [603] * 3 == [len(await one.texts()) for one in replicas]

    with serving_registry() as registry:
        asyncio.run(run(registry))


class DefectiveCore(Core):
    """A core that raises on a request of a peer once it has a defect."""

    has_defect = False

    def request(self, token: Hashable, message: PeerRequest, now_s: float) -> None:
        """See Core."""
        if self.has_defect:
            raise ZeroDivisionError
        super().request(token, message, now_s)


class DefectiveJournal(MemoryJournal):
    """A journal that raises on a commit once it has a defect."""

    has_defect = False

    def commit_now(self, ranges: Sequence[Range], in_sync: InSyncSet | None) -> bool:
        """See Journal."""
        if self.has_defect:
            raise ZeroDivisionError
        return super().commit_now(ranges, in_sync)


@pytest.mark.parametrize("where", ["request", "commit"])
def test_a_defect_breaks_the_journal_of_the_replica(where: str) -> None:
    """After an unexpected error nothing is certain about the replica, so its journal is broken, with the reason."""

    async def run(registry: str) -> None:
        journal = DefectiveJournal(MemoryTables(), itertools.count(1).__next__)
        async with three(registry, journal=journal, make_core=DefectiveCore) as (first, second, _):
            core = first.replicator.core
            assert isinstance(core, DefectiveCore)
            core.has_defect, journal.has_defect = where == "request", where == "commit"
            storing = asyncio.create_task(append(second, "x"))
            await asyncio.wait_for(first.journal.broken.wait(), 5.0)
            assert "ZeroDivisionError" in first.journal.why
            storing.cancel()

    with serving_registry() as registry:
        asyncio.run(run(registry))


def test_appends_continue_without_a_replica_that_stopped() -> None:
    """The stopped replica is fenced, and the others have every record that was acknowledged."""

    async def run(registry: str) -> None:
        addresses = free_addresses(3)
        async with running(addresses[0], addresses, [registry]) as first:
            async with running(addresses[1], addresses, [registry]) as second:
                async with running(addresses[2], addresses, [registry]) as third:
                    for one in (first, second, third):
                        await one.serves_among(addresses)
                    assert AppendOutcome.STORED is await append(first, "with three")
                assert AppendOutcome.STORED is await append(first, "with two")
                assert sorted(addresses[:2]) == await first.listed()
                await all_have([first, second], ["with three", "with two"])
            assert AppendOutcome.STORED is await append(first, "alone")
            assert addresses[:1] == await first.listed()

    with serving_registry() as registry:
        asyncio.run(run(registry))


def test_a_restarted_replica_is_listed_once_it_has_everything() -> None:
    """It catches up before it is listed, with its old journal as well as with an empty one."""

    async def run(registry: str) -> None:
        addresses = free_addresses(2)
        kept = MemoryTables()
        async with running(addresses[0], addresses, [registry]) as first:
            async with running(addresses[1], addresses, [registry], journal=new_journal(kept)):
                await first.serves_among(addresses)
                assert AppendOutcome.STORED is await append(first, "together")
            texts = ["together"]
            for tables in (kept, MemoryTables()):
                assert AppendOutcome.STORED is await append(first, *(f"{len(texts)} {number}" for number in range(50)))
                texts = await first.texts()
                async with running(addresses[1], addresses, [registry], journal=new_journal(tables)) as second:
                    await second.serves_among(addresses)
                    assert texts == await second.texts()

    with serving_registry() as registry:
        asyncio.run(run(registry))


class FillableJournal(MemoryJournal):
    """A journal whose disk can be full."""

    full = False

    def commit_now(self, ranges: Sequence[Range], in_sync: InSyncSet | None) -> bool:
        """See Journal; always commits within the call."""
        self._refuse()
        self.tables.commit(ranges, in_sync)
        return True

    async def new_incarnation(self) -> int:
        """See Journal."""
        self._refuse()
        return await super().new_incarnation()

    def _refuse(self) -> None:
        if self.full:
            raise StoreError("no space left on device")


def test_a_replica_with_a_full_disk_leaves_the_set_and_returns() -> None:
    """Its client gets an unknown outcome, the others continue, and it catches up once there is space again."""

    async def run(registry: str) -> None:
        addresses = free_addresses(3)
        numbers = iter(range(1, 100))
        disk = FillableJournal(MemoryTables(), numbers.__next__)
        async with (
            running(addresses[0], addresses, [registry]) as first,
            running(addresses[1], addresses, [registry]) as second,
            running(addresses[2], addresses, [registry], journal=disk) as third,
        ):
            for one in (first, second, third):
                await one.serves_among(addresses)
            disk.full = True
            assert AppendOutcome.UNKNOWN is await append(third, "of the full disk")
            assert "nothing can be written: no space left on device" == (await third.node.report()).reason
            await first.serves_among(addresses[:2])
            assert AppendOutcome.STORED is await append(second, "of the others")
            assert AppendOutcome.REFUSED is await append(third, "refused")
            disk.full = False
            await first.serves_among(addresses)
            await third.serves_among(addresses)
            assert "" == (await third.node.report()).reason
            assert AppendOutcome.STORED is await append(third, "with space again")
            assert await first.texts() == await second.texts() == await third.texts()
            assert {"of the others", "with space again"} <= set(await third.texts())

    with serving_registry() as registry:
        asyncio.run(run(registry))


def test_a_leaving_replica_finishes_its_appends_and_leaves_the_set() -> None:
    """It acknowledges what it has accepted and refuses new appends, and the others do not wait for it."""

    async def run(registry: str) -> None:
        async with three(registry) as (first, second, third):
            accepted = asyncio.create_task(append(third, "accepted before"))
            leaving = asyncio.create_task(third.replicator.leave(timeout_s=5.0))  # tasks begin in this order
            assert AppendOutcome.STORED is await accepted
            await leaving
            assert [] == await third.listed()
            assert AppendOutcome.REFUSED is await append(third, "too late")
            await first.serves_among([first.address, second.address])
            assert AppendOutcome.STORED is await append(first, "afterwards")
            await all_have([first, second], ["accepted before", "afterwards"])

    with serving_registry() as registry:
        asyncio.run(run(registry))


def test_an_idempotency_key_is_one_message_wherever_it_is_sent() -> None:
    """One replica decides about each key and the others forward to it, also when all are asked at once."""

    async def run(registry: str) -> None:
        async with three(registry) as replicas:
            for key in ("one", "two", "three", "four"):
                requests = [(one, Append(entries=(Entry(ids.new_id(), key, key=key),))) for one in replicas]
                replies = await asyncio.gather(*(one.node.handle(request) for one, request in requests))
                stored = [reply for reply in replies if isinstance(reply, Appended)]
                assert 3 == len(stored)
                assert 1 == len({reply.stored_as for reply in stored})
                other = Append(entries=(Entry(ids.new_id(), "another text", key=key),))
                refused = await replicas[0].node.handle(other)
                assert isinstance(refused, Appended)
                assert (0,) == refused.conflicts
            await all_have(replicas, ["four", "one", "three", "two"])

    with serving_registry() as registry:
        asyncio.run(run(registry))


def test_a_new_replica_does_not_serve_without_a_registry() -> None:
    """It refuses appends, and reports that no registry has answered."""

    async def run(registry: str) -> None:
        (address,) = free_addresses(1)
        async with running(address, [address], [registry]) as one:
            assert AppendOutcome.REFUSED is await append(one, "too early")
            assert "no registry has answered yet" == (await one.node.report()).reason

    asyncio.run(run(free_addresses(1)[0]))


def test_the_last_replica_continues_without_any_registry() -> None:
    """The peer's host refuses connections, so its process has ended, and no other replica can be listed."""

    async def run() -> None:
        addresses = free_addresses(2)
        async with contextlib.AsyncExitStack() as stack:
            second = await stack.enter_async_context(contextlib.AsyncExitStack())
            with serving_registry() as registry:
                first = await stack.enter_async_context(running(addresses[0], addresses, [registry]))
                await second.enter_async_context(running(addresses[1], addresses, [registry]))
                await first.serves_among(addresses)
            await second.aclose()
            assert AppendOutcome.STORED is await append(first, "alone")
            assert addresses[:1] == await first.listed()

    asyncio.run(run())
