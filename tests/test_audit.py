"""Tests of nodes.audit, and of nodes.retention: real journals of several nodes."""

import asyncio
from pathlib import Path

import pytest

from common import ids
from common.replication import Copy, Digest, Digested, Verified, Verify
from common.wire import Entry, Page
from nodes import retention
from nodes.audit import Audit
from nodes.journal import Journal
from nodes.queries import HOUR_MS
from nodes.store import MemoryStore
from scripts.ports import free_addresses
from tests.support import becomes
from tests.test_peers import Node, node, pair


def at(time_ms: int, text: str) -> Entry:
    """A message of some time."""
    return Entry(ids.last_id(time_ms)[:24] + ids.new_id()[24:], text)


def audit_of(found: Node, **options: float) -> Audit:
    """The audit of a node."""
    return Audit(found.journal, found.peers, **options)


def now_id() -> str:
    """Above every id that was made."""
    return ids.last_id(ids.now_ms() + 1_000)


def test_what_a_journal_lacks_is_taken_from_a_peer_that_has_it(tmp_path: Path) -> None:
    """Messages of any hour, also many, that no fetch would bring: afterwards both have the same."""

    async def run() -> None:
        one, two = free_addresses(2)
        async with node(tmp_path, one, [two]) as first, node(tmp_path, two, [one]) as second:
            old = [at(number * HOUR_MS, f"old {number}") for number in (1, 2, 470_000)]
            many = [Entry(ids.new_id(), "x" * 5_000) for _ in range(400)]  # over one page
            await first.peers.fetch()
            await second.peers.fetch()
            await first.journal.keep([*old, *many])  # kept, not accepted: not passed on by itself
            await second.journal.keep([old[1]])
            verified = await audit_of(second).verify(now_id())
            assert (403, 402) == (verified.messages, verified.repaired)
            again = await audit_of(first).verify(now_id())
            assert (403, verified.digest, 0) == (again.messages, again.digest, 0)
            assert sorted([*old, *many]) == await second.journal.read("", 1_000)

    asyncio.run(run())


def test_digests_are_by_hour_and_bounded(tmp_path: Path) -> None:
    """Only hours that are asked for, up to an id; a page of an hour at a time."""

    async def run() -> None:
        async with node(tmp_path, free_addresses(1)[0], []) as one:
            entries = [at(hour * HOUR_MS + 90_000, "x") for hour in (3, 3, 5, 7)]
            await one.journal.keep(entries)
            audit = audit_of(one)
            reply = await audit.handle(Digest(from_hour=4, until=ids.last_id(6 * HOUR_MS)))
            assert isinstance(reply, Digested)
            assert [(5, 1)] == [hour[:2] for hour in reply.hours]
            copied = await audit.handle(Copy(after="", until=ids.last_id(4 * HOUR_MS)))
            assert sorted(entries)[:2] == list(getattr(copied, "entries", ()))
            done = await audit.handle(Copy(after=entries[-1].id, until=now_id()))
            assert Page(entries=(), next=None, node=one.address) == done
            verified = await audit.handle(Verify(until=now_id()))
            assert isinstance(verified, Verified)
            assert (4, 0) == (verified.messages, verified.repaired)

    asyncio.run(run())


def test_what_is_about_to_expire_is_not_brought_back(tmp_path: Path) -> None:
    """With a retention, older hours are not compared."""

    async def run() -> None:
        async with pair(tmp_path) as (first, second):
            await first.peers.fetch()
            await second.peers.fetch()
            now_ms = ids.now_ms()
            old, young = at(now_ms - 30 * HOUR_MS, "old"), at(now_ms - 10 * HOUR_MS, "young")
            await first.journal.keep([old, young])
            verified = await audit_of(second, retention_days=1.0).verify(now_id())
            assert 1 == verified.repaired
            assert [young] == await second.journal.read("", 10)

    asyncio.run(run())


def test_the_audit_runs_by_itself(tmp_path: Path) -> None:
    """It compares the last hours again and again."""

    async def run() -> None:
        async with pair(tmp_path) as (first, second):
            await first.peers.fetch()
            await second.peers.fetch()
            entry = at(ids.now_ms() - 40_000, "x")
            await first.journal.keep([entry])
            running = asyncio.create_task(audit_of(second).run(every_s=0.01))
            await becomes([entry], lambda: second.journal.read("", 10))
            running.cancel()

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["memory", "journal"])
def test_old_messages_are_removed_in_the_background(tmp_path: Path, kind: str) -> None:
    """After the days of retention, from any store; never with 0."""

    async def run() -> None:
        store = MemoryStore() if kind == "memory" else Journal(tmp_path / "x.sqlite", "test")
        now_ms = ids.now_ms()
        old, young = at(now_ms - 25 * HOUR_MS, "old"), at(now_ms - 23 * HOUR_MS, "young")
        await store.append_all([old, young])
        await retention.run(store, 0)
        running = asyncio.create_task(retention.run(store, 1.0))
        await becomes([young], lambda: store.read("", 10))
        running.cancel()
        if isinstance(store, Journal):
            store.close()

    asyncio.run(run())
