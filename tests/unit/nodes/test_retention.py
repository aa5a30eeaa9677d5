"""Tests of nodes.retention."""

import asyncio

from structlog.typing import EventDict

from common import ids
from common.errors import StoreError
from common.protocol.content import Entry
from nodes import retention
from nodes.storage.memory import MemoryJournal, MemoryTables
from tests.support.waiting import becomes

HOUR_MS = 3_600_000


class FailingJournal(MemoryJournal):
    """A journal that can fail to remove messages."""

    fails = False

    async def expire(self, until: str) -> int:
        """See Journal."""
        if self.fails:
            raise StoreError("a full disk")
        return await super().expire(until)


def empty_journal() -> FailingJournal:
    """An empty journal."""
    return FailingJournal(MemoryTables(), lambda: 1)


def test_messages_older_than_the_configured_days_are_removed() -> None:
    """The age of a message is the time in its id."""

    async def run() -> None:
        journal, now_ms = empty_journal(), ids.now_ms()
        old, young = (Entry(ids.first_id(now_ms - hours * HOUR_MS), "x") for hours in (25, 23))
        await journal.repair([old, young])
        running = asyncio.create_task(retention.run(journal, 1.0))
        await becomes([young], lambda: journal.read("", 10))
        running.cancel()

    asyncio.run(run())


def test_retention_of_zero_days_removes_nothing() -> None:
    """Its task ends at once, since there is nothing to do in the background."""

    async def run() -> None:
        journal = empty_journal()
        entry = Entry(ids.first_id(1), "x")
        await journal.repair([entry])
        await retention.run(journal, 0.0)
        assert [entry] == await journal.read("", 10)

    asyncio.run(run())


def test_a_failed_removal_is_logged_and_retried(logged: list[EventDict]) -> None:
    """The log has the reason, and retention keeps running."""

    async def run() -> None:
        journal = empty_journal()
        journal.fails = True
        running = asyncio.create_task(retention.run(journal, 1.0))

        async def reasons() -> list[str]:
            return [str(line["reason"]) for line in logged]

        await becomes(["a full disk"], reasons)
        assert not running.done()
        running.cancel()

    asyncio.run(run())
