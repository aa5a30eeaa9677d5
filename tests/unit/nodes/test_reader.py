"""Tests of nodes.reader."""

import asyncio

import pytest

from common import ids
from common.protocol.content import MESSAGE_BYTES, Entry
from common.protocol.messages import PAGE_BYTES, Read
from nodes.reader import FIRST_CHUNK, read_page
from nodes.storage.memory import MemoryJournal, MemoryTables


class CountingJournal(MemoryJournal):
    """A journal that records how many messages each read was to return."""

    def __init__(self) -> None:
        super().__init__(MemoryTables(), lambda: 1)
        self.asked: list[int] = []

    async def read(self, after: str, limit: int, *, before: str = "", newest_first: bool = False) -> list[Entry]:
        """See Journal."""
        self.asked.append(limit)
        return await super().read(after, limit, before=before, newest_first=newest_first)


@pytest.mark.parametrize("count", [0, 1, FIRST_CHUNK - 1, FIRST_CHUNK, FIRST_CHUNK + 1, 500])
def test_a_full_page_has_a_cursor(count: int) -> None:
    """A page that reached its limit has a cursor and a shorter one has none, whatever the chunks are."""

    async def run() -> None:
        journal, entries = await filled(["x"] * count)
        assert (entries, None) == await read_page(journal, Read(after="", limit=count + 1))
        assert (entries[::-1], None) == await read_page(journal, Read(after="", limit=count + 1, newest_first=True))
        if count:
            assert (entries, entries[-1].id) == await read_page(journal, Read(after="", limit=count))

    asyncio.run(run())


def test_a_page_is_limited_in_bytes() -> None:
    """A page ends after the text that reaches PAGE_BYTES, and hardly more messages are read for it."""

    async def run() -> None:
        journal, entries = await filled(["é" * (MESSAGE_BYTES // 2)] * 500)
        fit = PAGE_BYTES // MESSAGE_BYTES
        assert (entries[:fit], entries[fit - 1].id) == await read_page(journal, Read(after="", limit=1_000))
        assert [FIRST_CHUNK] == journal.asked

        journal, entries = await filled(["x" * 5_000] * 1_000)
        found, _ = await read_page(journal, Read(after="", limit=1_000))
        assert PAGE_BYTES // 5_000 + 1 == len(found)
        assert sum(journal.asked) <= len(found) + 1

    asyncio.run(run())


async def filled(texts: list[str]) -> tuple[CountingJournal, list[Entry]]:
    """A journal with these texts, and its messages."""
    journal, entries = CountingJournal(), [Entry(ids.new_id(), text) for text in texts]
    await journal.repair(entries)
    return journal, entries
