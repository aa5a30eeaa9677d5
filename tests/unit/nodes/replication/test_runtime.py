"""Tests of nodes.replication.runtime: three replicas in one event loop, over real sockets, with a real registry."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from common import ids
from common.errors import StoreError
from common.protocol.messages import Append, Appended, Code, Entry, Failure
from common.protocol.replication import InSyncSet
from nodes.replication.core.effects import AppendOutcome, Range
from nodes.storage.memory import MemoryJournal, MemoryTables
from scripts.launcher.ports import free_addresses
from tests.support.replicas import Running, new_journal, running, serving_registry


@asynccontextmanager
async def three(registry: str) -> AsyncIterator[tuple[Running, Running, Running]]:
    """Three replicas that are in sync with each other."""
    addresses = free_addresses(3)
    async with contextlib.AsyncExitStack() as stack:
        found = [await stack.enter_async_context(running(one, addresses, [registry])) for one in addresses]
        for one in found:
            await one.serves_among(addresses)
        yield found[0], found[1], found[2]


async def append(one: Running, *texts: str) -> AppendOutcome:
    """How the append of messages at a replica ended."""
    finish = await one.replicator.append([(ids.new_id(), text, None) for text in texts])
    return finish.outcome


async def all_have(replicas: Sequence[Running], texts: Sequence[str]) -> None:
    """Return when each replica has these texts."""
    for one in replicas:
        await one.has(texts)


def test_replicas_that_start_together_form_one_in_sync_set() -> None:
    """All three list the same members in the same term, and serve."""

    async def run(registry: str) -> None:
        async with three(registry) as (first, second, third):
            reports = [await one.node.report() for one in (first, second, third)]
            assert 1 == len({(report.term, report.in_sync) for report in reports})
            assert sorted(one.address for one in (first, second, third)) == list(reports[0].in_sync)

    with serving_registry() as registry:
        asyncio.run(run(registry))


def test_a_record_is_in_every_journal_when_it_is_acknowledged() -> None:
    """Whichever replica accepts it, and when all accept at once."""

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


@pytest.mark.parametrize("where", ["request", "commit"])
def test_a_defect_ends_the_replica(where: str) -> None:
    """Nothing says what was done: its journal must not be used any more, and the others go on."""

    def breaks(*_: object) -> bool:
        raise ZeroDivisionError

    async def run(registry: str) -> None:
        async with three(registry) as replicas:
            first, second, _ = replicas
            if where == "request":
                first.replicator.core.request = breaks  # type: ignore[assignment, method-assign]
            else:
                first.journal.commit_now = breaks  # type: ignore[assignment, method-assign]
            storing = asyncio.create_task(append(second, "x"))
            await asyncio.wait_for(first.journal.broken.wait(), 5.0)
            assert "ZeroDivisionError" in first.journal.why
            storing.cancel()

    with serving_registry() as registry:
        asyncio.run(run(registry))


def test_appends_go_on_without_a_replica_that_stopped() -> None:
    """It is fenced within a fraction of a second, and nothing that was acknowledged is lacking at the others."""

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


def test_a_replica_that_starts_again_is_listed_when_it_has_everything() -> None:
    """Also what was accepted while it was away, with the journal that it had and with a new one."""

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


class Disk(MemoryJournal):
    """A journal whose disk can be full."""

    full = False

    def commit_now(self, ranges: Sequence[Range], in_sync: InSyncSet | None) -> bool:
        """See Journal; always at once."""
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


def test_a_replica_with_a_full_disk_leaves_and_comes_back() -> None:
    """Its client is told that the message may be stored; the others go on; with space again it gets what it lacks."""

    async def run(registry: str) -> None:
        addresses = free_addresses(3)
        numbers = iter(range(1, 100))
        disk = Disk(MemoryTables(), numbers.__next__)
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


def test_a_replica_that_leaves_gives_its_place_up() -> None:
    """It acknowledges what it has accepted, takes nothing new, and the others need not wait for it."""

    async def run(registry: str) -> None:
        async with three(registry) as (first, second, third):
            accepted = asyncio.create_task(append(third, "accepted before"))
            leaving = asyncio.create_task(third.replicator.leave(timeout_s=5.0))  # each begins in the order of its task
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
    """One replica decides about each key; the others pass it on, also at once."""

    async def run(registry: str) -> None:
        async with three(registry) as replicas:
            for key in ("one", "two", "three", "four"):
                requests = [(one, Append(entries=(Entry(ids.new_id(), key),), key=key)) for one in replicas]
                replies = await asyncio.gather(*(one.node.handle(request) for one, request in requests))
                assert [Appended] * 3 == [type(reply) for reply in replies]
                assert 1 == len({getattr(reply, "id", "") for reply in replies})
                other = await replicas[0].node.handle(Append(entries=(Entry(ids.new_id(), "another text"),), key=key))
                assert isinstance(other, Failure)
                assert Code.CONFLICT is other.code
            await all_have(replicas, ["four", "one", "three", "two"])

    with serving_registry() as registry:
        asyncio.run(run(registry))


def test_without_a_registry_nobody_serves_who_has_just_started() -> None:
    """A replica joins, and says what it waits for; with the registry it serves."""

    async def run(registry: str) -> None:
        (address,) = free_addresses(1)
        async with running(address, [address], [registry]) as one:
            assert AppendOutcome.REFUSED is await append(one, "too early")
            assert "no registry has answered yet" == (await one.node.report()).reason

    asyncio.run(run(free_addresses(1)[0]))


def test_the_last_replica_goes_on_without_any_registry() -> None:
    """The other one's host refuses connections, so its process has ended: nobody else can be listed beside this one."""

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
