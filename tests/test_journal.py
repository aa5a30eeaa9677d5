"""Tests of nodes.journal beyond the contract of a store."""

import asyncio
import shutil
import sqlite3
from pathlib import Path

import pytest
from structlog.typing import EventDict

from common import ids
from common.errors import FatalError, StoreError
from common.replication import Record, Scope
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


def test_what_a_peer_had_and_is_accepted_here_is_new_again(tmp_path: Path) -> None:
    """A message that came from a peer and is sent again counts as accepted here: the peer may be dead now."""

    async def run() -> None:
        journal = Journal(tmp_path / "x.sqlite", "test")
        one, two = (Entry(ids.new_id(), text) for text in "ab")
        await journal.keep([one])
        await journal.append(*two)
        before = await journal.since(0)
        assert [two.id] == [record.id for record in before.records]
        await journal.append(*one)
        await journal.append(one.id, "another text")
        await journal.append(*two)
        after = await journal.since(before.next)
        assert [Record(*one, None)] == list(after.records)
        third = Entry(ids.new_id(), "c")
        await journal.append(*third)
        assert [third.id] == [record.id for record in (await journal.since(after.next)).records]
        assert [one, two, third] == await journal.read("", 10)
        journal.close()

    asyncio.run(run())


def test_a_journal_whose_file_was_removed_takes_nothing(tmp_path: Path) -> None:
    """The operating system would write on into a file that nobody can open again."""

    async def run() -> None:
        journal = Journal(tmp_path / "x.sqlite", "test")
        await journal.append(ids.new_id(), "x")
        for file in tmp_path.glob("x.sqlite*"):
            file.unlink()
        with pytest.raises(StoreError, match=r"the journal is broken: .*x.sqlite: the file is gone"):
            await journal.append(ids.new_id(), "y")
        assert journal.broken.is_set()
        journal.close()

    asyncio.run(run())


def test_a_damaged_message_is_never_served(tmp_path: Path) -> None:
    """A text that is not what was written is an error, breaks the journal, and is told when it is opened again."""
    path = tmp_path / "x.sqlite"

    async def run() -> None:
        journal = Journal(path, "test")
        entry = Entry(ids.new_id(), "text")
        await journal.append(*entry)
        await journal.check()
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("UPDATE messages SET msg = 'test'")
        other.close()
        with pytest.raises(StoreError, match=f"the message {entry.id} is damaged"):
            await journal.read("", 10)
        assert journal.broken.is_set()
        with pytest.raises(StoreError, match="the journal is broken"):
            await journal.append(ids.new_id(), "more")
        journal.close()
        again = Journal(path, "test")
        with pytest.raises(FatalError, match=r"x.sqlite: the message .* is damaged; .* wipe"):
            await again.check()
        again.close()

    asyncio.run(run())


def test_a_journal_of_another_cluster_or_format_is_refused(tmp_path: Path) -> None:
    """The sentence names both."""
    path = tmp_path / "x.sqlite"
    Journal(path, "one").close()
    with pytest.raises(FatalError, match=r"x\.sqlite is a journal of cluster 'one', not 'two'"):
        Journal(path, "two")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("UPDATE meta SET value = '0' WHERE name = 'format'")
    other.close()
    with pytest.raises(FatalError, match=r"x\.sqlite is a journal of format '0', not '1'"):
        Journal(path, "one")


def test_what_expires_is_gone_and_its_space_is_given_back(tmp_path: Path) -> None:
    """Old messages leave the file, numbers are never used again, and the file becomes smaller."""
    path = tmp_path / "x.sqlite"

    async def run() -> None:
        journal = Journal(path, "test")
        entries = [Entry(ids.new_id(), "x" * 1_000) for _ in range(2_500)]
        await journal.append_all(entries)
        last = (await journal.since(0, Scope.EVERYTHING)).next
        assert 2_500 == await journal.expire(entries[-1].id)
        assert 0 == await journal.expire(entries[-1].id)
        assert [] == await journal.read("", 10)
        new = Entry(ids.new_id(), "new")
        await journal.append(*new)
        assert last < (await journal.since(last, Scope.EVERYTHING)).next
        assert [new] == await journal.read("", 10)
        journal.close()

    asyncio.run(run())
    assert path.stat().st_size < 1_000_000


def test_the_newest_are_found_by_their_number(tmp_path: Path) -> None:
    """The id of the newest message but so many; nothing when there are not so many."""

    async def run() -> None:
        journal = Journal(tmp_path / "x.sqlite", "test")
        entries = [Entry(ids.new_id(), "x") for _ in range(5)]
        await journal.append_all(entries)
        assert [entries[4].id, entries[2].id, ""] == [await journal.newest(skip) for skip in (0, 2, 5)]
        journal.close()

    asyncio.run(run())


def test_a_full_disk_is_an_error_and_no_more(tmp_path: Path) -> None:
    """When there is no space, appends fail; when there is, they succeed: nothing is broken by it."""

    async def run() -> None:
        journal = Journal(tmp_path / "x.sqlite", "test")
        await journal._writer.run(lambda connection: connection.execute("PRAGMA max_page_count = 30").fetchall())
        entry = Entry(ids.new_id(), "x" * 65_000)
        appends = [journal.append(ids.new_id(), "x" * 65_000) for _ in range(10)]
        with pytest.raises(StoreError, match="database or disk is full"):
            await asyncio.gather(*appends)
        assert not journal.broken.is_set()
        await journal._writer.run(lambda connection: connection.execute("PRAGMA max_page_count = 3000").fetchall())
        await journal.append(*entry)
        assert entry in await journal.read("", 10)
        journal.close()

    asyncio.run(run())


def test_the_torn_end_of_a_journal_is_cut_and_told(tmp_path: Path, logged: list[EventDict]) -> None:
    """What was not completely written when the power went is not served; what was before it is."""
    path, copy = tmp_path / "x.sqlite", tmp_path / "copy.sqlite"

    async def run() -> None:
        journal = Journal(path, "test")
        entries = [Entry(ids.new_id(), f"{number} " + "x" * 5_000) for number in range(3)]
        for entry in entries:
            await journal.append(*entry)
        shutil.copy(path, copy)  # as the disk is while the node runs, but for the last 3,000 bytes
        wal = Path(f"{path}-wal").read_bytes()
        Path(f"{copy}-wal").write_bytes(wal[:-3_000])
        journal.close()
        torn = Journal(copy, "test")
        assert entries[:2] == await torn.read("", 10)
        await torn.check()
        await torn.append(*entries[2])
        assert entries == await torn.read("", 10)
        torn.close()

    asyncio.run(run())
    assert ["the end of the journal was not completely written, and is cut"] == [line["event"] for line in logged]
