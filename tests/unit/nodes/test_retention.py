"""Tests of nodes.retention."""

import asyncio

from structlog.typing import EventDict

from common import ids
from common.errors import StoreError
from common.protocol.messages import Entry
from nodes import retention
from nodes.storage.memory import MemoryJournal, MemoryTables
from tests.support.waiting import becomes

HOUR_MS = 3_600_000


class Disk(MemoryJournal):
    """A journal that may fail to remove."""

    fails = False

    async def expire(self, until: str) -> int:
        """See Journal."""
        if self.fails:
            raise StoreError("a full disk")
        return await super().expire(until)


def disk() -> Disk:
    """An empty journal."""
    return Disk(MemoryTables(), lambda: 1)


def test_messages_older_than_the_configured_days_are_removed() -> None:
    """By the times in their ids."""

    async def run() -> None:
        journal, now_ms = disk(), ids.now_ms()
        old, young = (Entry(ids.first_id(now_ms - hours * HOUR_MS), "x") for hours in (25, 23))
        await journal.repair([old, young])
        running = asyncio.create_task(retention.run(journal, 1.0))
        await becomes([young], lambda: journal.read("", 10))
        running.cancel()

    asyncio.run(run())


def test_with_no_days_nothing_is_removed() -> None:
    """Then there is nothing to do in the background, either."""

    async def run() -> None:
        journal = disk()
        entry = Entry(ids.first_id(1), "x")
        await journal.repair([entry])
        await retention.run(journal, 0.0)
        assert [entry] == await journal.read("", 10)

    asyncio.run(run())


def test_a_removal_that_fails_is_tried_again_later(logged: list[EventDict]) -> None:
    """The log says why; the node goes on."""

    async def run() -> None:
        journal = disk()
        journal.fails = True
        running = asyncio.create_task(retention.run(journal, 1.0))

        async def told() -> list[str]:
            return [str(line["reason"]) for line in logged]

        await becomes(["a full disk"], told)
        assert not running.done()
        running.cancel()

    asyncio.run(run())
