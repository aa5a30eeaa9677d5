"""Tests of nodes.replication.anti_entropy, with replicas in sync whose journals differ."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from common import ids
from common.protocol.content import Entry
from common.protocol.messages import PAGE_MESSAGES, Page
from common.protocol.replication import Digest, Digested, ListEntries, Verified, Verify
from nodes.storage.protocol import HOUR_MS
from scripts.launcher.ports import free_addresses
from tests.support.nodes.replicas import RunningNode, running, serving_registry


def on(steps: Callable[[RunningNode, RunningNode], Awaitable[None]]) -> None:
    """Run the steps with two replicas that are in sync."""

    async def run(registry: str) -> None:
        addresses = free_addresses(2)
        async with contextlib.AsyncExitStack() as stack:
            first, second = [await stack.enter_async_context(running(one, addresses, [registry])) for one in addresses]
            for one in (first, second):
                await one.serves_among(addresses)
            await steps(first, second)

    with serving_registry() as registry:
        asyncio.run(run(registry))


def at(time_ms: int, text: str) -> Entry:
    """A message whose id has this time, in milliseconds since 1970."""
    return Entry(ids.last_id(time_ms)[:24] + ids.new_id()[24:], text)


def highest_id() -> str:
    """An id above every id so far."""
    return ids.last_id(ids.now_ms() + 1_000)


async def verified(one: RunningNode) -> Verified:
    """The answer of a replica that has compared its journal with the others' and repaired it."""
    reply = await one.node.handle(Verify(until=highest_id()))
    assert isinstance(reply, Verified)
    assert one.address == reply.node
    return reply


def test_a_replica_copies_the_messages_that_its_journal_lacks() -> None:
    """Messages of any hour are copied, also many of one hour; then both replicas report the same digest."""

    async def steps(first: RunningNode, second: RunningNode) -> None:
        old = [at(number * HOUR_MS, f"old {number}") for number in (1, 2, 470_000)]
        many = [Entry(ids.new_id(), "x" * 2_000) for _ in range(PAGE_MESSAGES + 400)]
        await first.journal.repair([*old, *many])
        await second.journal.repair([old[1]])
        found = await verified(second)
        assert (len(many) + 3, len(many) + 2) == (found.messages, found.repaired)
        again = await verified(first)
        assert (found.messages, found.digest, 0) == (again.messages, again.digest, 0)
        assert sorted([*old, *many]) == await second.journal.read("", 2_000)

    on(steps)


def test_each_of_two_replicas_copies_what_it_lacks() -> None:
    """Both replicas have messages of one hour that the other one lacks, and end with the same."""

    async def steps(first: RunningNode, second: RunningNode) -> None:
        one, other = at(7 * HOUR_MS, "one"), at(7 * HOUR_MS, "other")
        await first.journal.repair([one])
        await second.journal.repair([other])
        assert [1, 1] == [(await verified(replica)).repaired for replica in (first, second)]
        assert sorted([one, other]) == await first.journal.read("", 10) == await second.journal.read("", 10)

    on(steps)


def test_more_hours_than_fit_into_one_message_are_compared() -> None:
    """The digests of a log of many weeks are requested in several messages."""

    async def steps(first: RunningNode, second: RunningNode) -> None:
        entries = [at(hour * HOUR_MS, "x") for hour in range(1, PAGE_MESSAGES + 300)]
        await first.journal.repair(entries)
        await second.journal.repair(entries[:-1])
        assert 1 == (await verified(second)).repaired

    on(steps)


def test_digests_are_by_hour_and_bounded() -> None:
    """Digests cover the hours between two bounds, and entries are listed in the order of their ids."""

    async def steps(first: RunningNode, _second: RunningNode) -> None:
        entries = [at(hour * HOUR_MS + 90_000, "x") for hour in (3, 3, 5, 7)]
        await first.journal.repair(entries)
        reply = await first.node.handle(Digest(from_hour=4, until=ids.last_id(6 * HOUR_MS)))
        assert isinstance(reply, Digested)
        assert [(5, 1)] == [hour[:2] for hour in reply.hours]
        assert Digested(hours=()) == await first.node.handle(Digest(from_hour=8, until=highest_id()))
        copied = await first.node.handle(ListEntries(after="", until=ids.last_id(4 * HOUR_MS)))
        own = tuple(sorted(entries[:2]))
        assert Page(entries=own, next=own[-1].id, node=first.address) == copied
        done = await first.node.handle(ListEntries(after=entries[-1].id, until=highest_id()))
        assert Page(entries=(), next=None, node=first.address) == done

    on(steps)


def test_what_retention_removed_is_not_brought_back() -> None:
    """Hours that retention has reached are not compared, since the other replica may still have messages of them."""

    async def steps(first: RunningNode, second: RunningNode) -> None:
        entries = sorted(at(hour * HOUR_MS, "x") for hour in (3, 3, 5))
        for one in (first, second):
            await one.journal.repair(entries)
        await second.journal.expire(entries[1].id)
        assert 0 == (await verified(second)).repaired
        assert entries[2:] == await second.journal.read("", 10)
        assert 0 == (await verified(first)).repaired

    on(steps)


def test_empty_journals_are_equal() -> None:
    """Two empty journals have the same digest, and nothing is repaired."""

    async def steps(first: RunningNode, _second: RunningNode) -> None:
        assert Verified(node=first.address, messages=0, digest=0, repaired=0) == await verified(first)

    on(steps)


def test_a_replica_that_does_not_answer_is_skipped() -> None:
    """The journals of the other replicas are compared all the same."""

    async def run(registry: str) -> None:
        addresses = free_addresses(3)
        async with contextlib.AsyncExitStack() as stack:
            third = await stack.enter_async_context(contextlib.AsyncExitStack())
            first, second = [
                await stack.enter_async_context(running(one, addresses, [registry])) for one in addresses[:2]
            ]
            await third.enter_async_context(running(addresses[2], addresses, [registry]))
            for one in (first, second):
                await one.serves_among(addresses)
            await second.journal.repair([at(HOUR_MS, "x")])
            await third.aclose()
            assert 1 == (await verified(first)).repaired

    with serving_registry() as registry:
        asyncio.run(run(registry))


def test_a_changed_text_changes_the_digest_and_is_not_overwritten() -> None:
    """A text that changed on a disk makes the digests differ, and each replica keeps its own."""

    async def steps(first: RunningNode, second: RunningNode) -> None:
        entry = at(HOUR_MS, "x")
        await first.journal.repair([entry])
        await second.journal.repair([entry._replace(msg="y")])
        one, other = await verified(first), await verified(second)
        assert (1, 0) == (one.messages, one.repaired) == (other.messages, other.repaired)
        assert one.digest != other.digest
        assert [["x"], ["y"]] == [await first.texts(), await second.texts()]

    on(steps)
