"""Tests of nodes.journal beyond the contract of a store."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from common import ids
from common.errors import FatalError, StoreError
from common.wire import Entry
from nodes.journal import Journal
from nodes.store import KEY_S


def test_messages_are_on_disk_and_shared_by_all_who_open_the_file(tmp_path: Path) -> None:
    """Two nodes of one machine write one file, at once, and each reads what the other wrote, also later."""
    path = tmp_path / "folder" / "messages.sqlite"

    async def run() -> None:
        one, two = Journal(path, "test"), Journal(path, "test")
        entries = [Entry(ids.new_id(), str(number)) for number in range(200)]
        await asyncio.gather(*((one, two)[number % 2].append(*entry) for number, entry in enumerate(entries)))
        assert entries == await one.read("", 1_000)
        assert entries == await two.read("", 1_000)
        one.close()
        two.close()
        again = Journal(path, "test")
        assert entries == await again.read("", 1_000)
        again.close()

    asyncio.run(run())


def test_each_commit_is_flushed(tmp_path: Path) -> None:
    """The settings that make a commit durable are in force on the writing connection."""
    journal = Journal(tmp_path / "messages.sqlite", "test")

    async def pragma(name: str) -> object:
        return await journal._writer.run(lambda connection: connection.execute(f"PRAGMA {name}").fetchone()[0])

    assert "wal" == asyncio.run(pragma("journal_mode"))
    assert 2 == asyncio.run(pragma("synchronous"))  # FULL
    journal.close()


def test_a_write_that_fails_is_an_error_and_the_next_one_works(tmp_path: Path) -> None:
    """While another process holds the lock too long appends fail, all that wait, and afterwards they succeed."""
    path = tmp_path / "messages.sqlite"

    async def run() -> None:
        journal = Journal(path, "test")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        entries = [Entry(ids.new_id(), "x") for _ in range(3)]
        results = await asyncio.gather(*(journal.append(*entry) for entry in entries), return_exceptions=True)
        assert [StoreError] * 3 == [type(result) for result in results]
        assert "database is locked" in str(results[0])
        assert [] == await journal.read("", 10)
        other.execute("ROLLBACK")
        other.close()
        await journal.append(*entries[0])
        assert entries[:1] == await journal.read("", 10)
        journal.close()

    asyncio.run(run())


def test_a_key_is_forgotten_after_a_day(tmp_path: Path) -> None:
    """An old key may be used anew, and does not fill the file."""
    path = tmp_path / "messages.sqlite"

    async def run() -> None:
        journal = Journal(path, "test")
        assert "old" == (await journal.claim("key", "old", "d")).message_id
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("UPDATE keys SET made_s = made_s - ?", (KEY_S + 1,))
        other.close()
        assert "new" == (await journal.claim("key", "new", "d")).message_id
        journal.close()

    asyncio.run(run())


def test_a_caller_that_gives_up_does_not_stop_the_others(tmp_path: Path) -> None:
    """A cancelled append leaves the commit of its neighbours alone."""

    async def run() -> None:
        journal = Journal(tmp_path / "messages.sqlite", "test")
        tasks = [asyncio.create_task(journal.append(ids.new_id(), "x")) for _ in range(3)]
        asyncio.get_running_loop().call_soon(tasks[1].cancel)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [None, None] == [results[0], results[2]]
        journal.close()

    asyncio.run(run())


def test_a_file_that_is_no_journal_is_one_sentence(tmp_path: Path) -> None:
    """Nonsense in the file, or a folder in its place, is refused."""
    (tmp_path / "messages.sqlite").write_bytes(b"nonsense" * 1_000)
    with pytest.raises(FatalError, match=r"cannot use .*messages.sqlite as a journal: file is not a database"):
        Journal(tmp_path / "messages.sqlite", "test")
    with pytest.raises(FatalError, match="cannot use"):
        Journal(tmp_path, "test")
