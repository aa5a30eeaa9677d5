"""Tests of nodes.storage.sqlite beyond the contract in test_protocol.py."""

import asyncio
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from structlog.typing import EventDict

from common.errors import FatalError, StoreError
from common.ids import new_id
from common.protocol.replication import Record
from nodes.replication.core.effects import Range
from nodes.storage import tables
from nodes.storage.database import BUSY_MS
from nodes.storage.sqlite import SqliteJournal, open_journal
from tests.support.nodes.journals import ORIGIN, execute, numbered_entries, opened, range_of

QUICK_S = 60.0  # a limit for quick transactions that the disk of every machine meets


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    """Nonsense in the file, or a folder in its place, is a fatal error, and the lock is released."""
    (tmp_path / "x.sqlite").write_bytes(b"nonsense" * 1_000)
    with pytest.raises(FatalError, match=r"cannot use .*x\.sqlite as a journal: file is not a database"):
        SqliteJournal(tmp_path / "x.sqlite", "test", "a:1")
    with pytest.raises(FatalError, match="cannot use"):
        SqliteJournal(tmp_path, "test", "a:1")
    (tmp_path / "x.sqlite").unlink()
    with opened(tmp_path / "x.sqlite"):
        pass


def test_a_journal_of_another_cluster_or_format_is_refused(path: Path) -> None:
    """The error names the cluster or the format that was found, and the expected one."""
    with opened(path):
        pass
    with pytest.raises(FatalError, match=r"x\.sqlite is a journal of cluster 'test', not 'two'"):
        SqliteJournal(path, "two", "a:1")
    execute(path, "UPDATE meta SET value = '0' WHERE name = 'format'")
    with pytest.raises(FatalError, match=r"x\.sqlite is a journal of format '0', not '3'"):
        SqliteJournal(path, "test", "a:1")


def test_a_journal_of_another_node_gets_a_new_name(path: Path, logged: list[EventDict]) -> None:
    """It may be a copy, so it gets a new name, and the log names the node that made it."""
    with opened(path) as journal:
        name = journal.name
    with opened(path) as journal:
        assert name == journal.name
    assert [] == logged
    with opened(path, "b:2") as journal:
        assert name != journal.name
    assert [("the journal was made by another node", "a:1")] == [(line["event"], line["node"]) for line in logged]


def test_each_opening_begins_a_new_incarnation(path: Path) -> None:
    """An incarnation has 63 bits, is never 0, and differs from all origins in the file."""
    found = []
    for _ in range(3):
        with opened(path) as journal:
            found.append(journal.opened.incarnation)
            asyncio.run(journal.commit([Range(found[-1], 0, 1, (Record(1, new_id(), "x", None),))], None))
    assert 3 == len(set(found))
    assert all(0 < incarnation < 2**63 for incarnation in found)
    numbers = iter([found[0], found[1], 99])
    with closing(SqliteJournal(path, "test", "a:1", draw=numbers.__next__)) as journal:
        assert 99 == journal.opened.incarnation


def test_the_arrivals_of_its_own_incarnations_carry_its_address(path: Path) -> None:
    """The address is known before any in-sync set was committed."""

    async def run(journal: SqliteJournal) -> None:
        messages = numbered_entries(2)
        for number, origin in enumerate([journal.opened.incarnation, await journal.new_incarnation()]):
            await journal.commit([Range(origin, 0, 1, (Record(1, messages[number].id, messages[number].msg),))], None)
        assert ["a:1", "a:1"] == [arrival.entry.node for arrival in await journal.arrivals(0, 2)]

    with opened(path) as journal:
        asyncio.run(run(journal))


def test_the_context_manager_closes_the_file(path: Path) -> None:
    """Afterwards the journal can be opened again; while it is open it reports its size and its last flush."""

    async def run() -> None:
        commits_s: list[float] = []
        async with open_journal(path, "test", "a:1", on_commit=commits_s.append) as journal:
            await journal.commit([range_of(numbered_entries(3))], None)
            size = await journal.size()
            assert 1 == len(commits_s)
            assert 3 == size.messages
            assert size.bytes >= path.stat().st_size > 0
            assert size.flushed_ms > 1_700_000_000_000
        async with open_journal(path, "test", "a:1") as journal:
            assert 0 == (await journal.size()).flushed_ms

    asyncio.run(run())


def test_a_journal_whose_file_was_removed_is_broken(path: Path) -> None:
    """The operating system would accept writes to a file that nobody can open again."""

    async def run(journal: SqliteJournal) -> None:
        await journal.commit([range_of(numbered_entries(1))], None)
        for file in path.parent.glob("x.sqlite*"):
            file.unlink()
        with pytest.raises(StoreError, match=r"the journal is broken: .*x.sqlite: the file is gone"):
            await journal.commit([range_of(numbered_entries(1), after=1)], None)
        assert journal.broken.is_set()
        with pytest.raises(StoreError, match=r"the journal is broken: .*x.sqlite: the file is gone"):
            await journal.read("", 10)

    with opened(path) as journal:
        asyncio.run(run(journal))


def test_a_check_runs_beside_commits(path: Path) -> None:
    """A node checks its whole journal when it starts, and stores records of its peers at the same time."""

    async def run(journal: SqliteJournal) -> None:
        await journal.commit([range_of(numbered_entries(5_000))], None)
        checking = asyncio.create_task(journal.check())
        after = 5_000
        while not checking.done():
            await journal.commit([range_of(numbered_entries(1), after=after)], None)
            after += 1
        await checking
        assert after > 5_000

    with opened(path) as journal:
        asyncio.run(run(journal))


def test_a_damaged_message_is_never_served(path: Path) -> None:
    """A text with a wrong checksum breaks the journal when it is loaded, and is found when the journal is checked."""

    async def damage(journal: SqliteJournal) -> None:
        (entry,) = messages = numbered_entries(1)
        await journal.commit([range_of(messages)], None)
        await journal.check()
        execute(path, "UPDATE messages SET msg = 'test'")
        with pytest.raises(StoreError, match=f"the message {entry.id} is damaged"):
            await journal.load(ORIGIN, 0, 1)
        assert journal.broken.is_set()
        assert f"{path}: the message {entry.id} is damaged" == journal.why
        with pytest.raises(StoreError, match="the journal is broken"):
            await journal.commit([range_of(numbered_entries(1), after=1)], None)

    async def check(journal: SqliteJournal) -> None:
        with pytest.raises(FatalError, match=r"x.sqlite: the message .* is damaged; .* wipe"):
            await journal.check()

    for steps in (damage, check):
        with opened(path) as journal:
            asyncio.run(steps(journal))


def test_a_damaged_page_is_found(path: Path) -> None:
    """A check finds that the disk has lost pages, and breaks the journal."""

    async def fill(journal: SqliteJournal) -> None:
        await journal.commit([range_of(numbered_entries(1_000, "x" * 500))], None)

    async def check(journal: SqliteJournal) -> None:
        with pytest.raises(FatalError, match=r"the journal is broken: .*malformed"):
            await journal.check()
        assert journal.broken.is_set()

    with opened(path) as journal:
        asyncio.run(fill(journal))
    with path.open("r+b") as file:
        file.seek(100 * 4_096)
        file.write(b"\xff" * 4_096 * 20)
    with opened(path) as journal:
        asyncio.run(check(journal))


class GateObserver:
    """An observer of commits that can hold the thread of the journal while it commits."""

    def __init__(self) -> None:
        self.holds = False
        self.reached, self.may_go = threading.Event(), threading.Event()

    def __call__(self, _seconds: float) -> None:
        """Wait for `may_go` if this commit is to be held."""
        if self.holds:
            self.holds = False
            self.reached.set()
            assert self.may_go.wait(10.0)


def test_a_short_commit_is_done_within_the_call(tmp_path: Path) -> None:
    """Once a commit was quick, `commit_now` commits; it leaves long ranges, and those that must wait, to the thread."""

    async def run() -> None:
        gate = GateObserver()
        path = tmp_path / "x.sqlite"
        with closing(SqliteJournal(path, "test", "a:1", on_commit=gate, short_s=QUICK_S)) as journal:
            assert not journal.commit_now([range_of(numbered_entries(1))], None)  # no commit has been timed yet
            await journal.commit([range_of(numbered_entries(1))], None)

            assert journal.commit_now([range_of(numbered_entries(1), after=1)], None)
            assert 2 == journal.last_arrival()
            assert not journal.commit_now([range_of(numbered_entries(tables.SHORT_RECORDS + 1), after=2)], None)
            assert not journal.commit_now([range_of(numbered_entries(1, "x" * tables.SHORT_CHARACTERS), after=2)], None)

            gate.holds = True
            committing = asyncio.create_task(journal.commit([range_of(numbered_entries(1), after=2)], None))
            assert await asyncio.to_thread(gate.reached.wait, 10.0)
            assert not journal.commit_now([range_of(numbered_entries(1), after=3)], None)
            gate.may_go.set()
            await committing
        with opened(path, short_s=0.0) as journal:
            assert 3 == journal.opened.vector[ORIGIN]
            await journal.commit([range_of(numbered_entries(1), after=3)], None)
            assert not journal.commit_now([range_of(numbered_entries(1), after=4)], None)  # the commit before was slow

    asyncio.run(run())


def test_commit_now_waits_for_no_lock(tmp_path: Path) -> None:
    """It returns without a commit while another program has a lock, and after the journal was closed."""

    async def run() -> None:
        with (
            opened(tmp_path / "x.sqlite", short_s=QUICK_S) as journal,
            closing(sqlite3.connect(tmp_path / "x.sqlite")) as other,
        ):
            await journal.commit([range_of(numbered_entries(1))], None)
            other.execute("BEGIN IMMEDIATE")
            began_s = time.monotonic()
            assert not journal.commit_now([range_of(numbered_entries(1), after=1)], None)
            assert time.monotonic() - began_s < BUSY_MS / 1_000
            other.rollback()
            await journal.commit([range_of(numbered_entries(1), after=1)], None)
            assert journal.commit_now([range_of(numbered_entries(1), after=2)], None)
        assert not journal.commit_now([range_of(numbered_entries(1), after=3)], None)

    asyncio.run(run())


def test_commit_now_leaves_keyed_records_to_the_thread(tmp_path: Path) -> None:
    """Storing a key also removes all old keys, whose number is not limited."""

    async def run() -> None:
        with opened(tmp_path / "x.sqlite", short_s=QUICK_S) as journal:
            await journal.commit([range_of(numbered_entries(1))], None)
            assert not journal.commit_now([range_of(numbered_entries(1), after=1, key="key")], None)

    asyncio.run(run())


def test_commit_now_breaks_the_journal_like_any_commit(tmp_path: Path) -> None:
    """A removed file breaks the journal, and every later commit raises the same error."""

    async def run() -> None:
        with opened(tmp_path / "x.sqlite", short_s=QUICK_S) as journal:
            await journal.commit([range_of(numbered_entries(1))], None)
            (tmp_path / "x.sqlite").unlink()

            for _ in range(2):
                with pytest.raises(StoreError, match=r"the journal is broken: .*the file is gone"):
                    journal.commit_now([range_of(numbered_entries(1), after=1)], None)
            assert journal.broken.is_set()

    asyncio.run(run())
