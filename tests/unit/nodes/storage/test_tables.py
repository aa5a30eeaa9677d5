"""Tests of nodes.storage.tables beyond the contract of a journal in test_protocol.py."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from common.protocol.content import Entry
from common.protocol.messages import PAGE_BYTES
from nodes.storage import reading, tables
from nodes.storage.database import UnusableError
from nodes.storage.opening import SCHEMA
from nodes.storage.protocol import KEY_S, Claim, checksum, digest
from nodes.storage.sqlite import SqliteJournal
from nodes.storage.tables import EXPIRE_MESSAGES, Change, Contents, Version
from tests.support.nodes.journals import ORIGIN, numbered_entries, range_of

NOW_S = 0.0


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """A connection to empty tables in memory."""
    with closing(sqlite3.connect(":memory:")) as opened:
        for statement in SCHEMA:
            opened.execute(statement)
        yield opened


def store(connection: sqlite3.Connection, entries: list[Entry]) -> Change:
    """Store messages as the first records of ORIGIN."""
    return tables.store(connection, tables.contents(connection), [range_of(entries)], None, NOW_S)


def test_a_page_ends_with_the_text_that_reaches_its_limit(connection: sqlite3.Connection) -> None:
    """Pages in the order of ids and of arrival are limited in bytes, so that they fit into a frame."""
    entries = numbered_entries(6, "x" * (PAGE_BYTES // 4))
    store(connection, entries)

    assert entries[:4] == reading.between(connection, "", entries[-1].id)
    assert entries[:4] == [arrival.entry for arrival in reading.arrivals(connection, 0, 6)]


def test_a_transaction_removes_a_limited_number_of_messages(connection: sqlite3.Connection) -> None:
    """The oldest are removed first, and commits get in between two transactions."""
    entries = numbered_entries(EXPIRE_MESSAGES + 2)
    store(connection, entries)
    last = entries[EXPIRE_MESSAGES - 1].id
    changes = [tables.expire(connection, entries[-2].id) for _ in range(3)]

    assert [Change(EXPIRE_MESSAGES, floor=last), Change(1, floor=entries[-2].id), Change(0)] == changes
    assert entries[-1:] == reading.read(connection, "", "g", 10, newest_first=False)
    assert entries[-2].id == tables.contents(connection).floor


def test_the_cached_contents_are_those_of_the_tables(connection: sqlite3.Connection) -> None:
    """After a commit the cache is updated with its change, and a reopened file is read to the same values."""
    held = tables.contents(connection)
    entries = numbered_entries(3)
    held.apply(tables.store(connection, held, [range_of(entries)], None, NOW_S))
    held.apply(tables.expire(connection, entries[0].id))
    assert Contents({ORIGIN: Version(1, 3)}, 3, entries[0].id) == held

    assert held == tables.contents(connection)


def test_a_row_with_a_wrong_checksum_is_not_returned() -> None:
    """The disk has damaged it; the error names the message."""
    (entry,) = numbered_entries(1)
    crc = checksum(entry.id, entry.msg)
    assert entry == reading.checked(entry.id, entry.msg, "", crc)
    for text, fields in (("another text", ""), (entry.msg, '{"a":1}')):
        with pytest.raises(UnusableError, match=f"the message {entry.id} is damaged"):
            reading.checked(entry.id, text, fields, crc)


def test_a_key_can_be_used_again_after_a_day(path: Path) -> None:
    """The age of a key counts from the time in the id of its message."""
    now_s = 1_000_000.0
    first, second = f"{int(now_s * 1_000):012x}", f"{int((now_s + KEY_S + 1) * 1_000):012x}"
    made = [f"{stamp[:8]}-{stamp[8:]}-7000-8000-000000000000" for stamp in (first, second)]

    async def run() -> None:
        time_s = [now_s]
        with closing(SqliteJournal(path, "test", "a:1", clock=lambda: time_s[0])) as journal:
            await journal.commit([range_of([Entry(made[0], "x")], key="key")], None)
            time_s[0] += KEY_S
            assert Claim(made[0], digest(Entry("", "x"))) == await journal.find_key("key")
            time_s[0] += 1
            assert await journal.find_key("key") is None
            await journal.commit([range_of([Entry(made[1], "y")], after=1, key="key")], None)
            assert Claim(made[1], digest(Entry("", "y"))) == await journal.find_key("key")

    asyncio.run(run())
