"""Tests of the SQLite journal beyond the contract suite: owner of the file, disk errors, format 1."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from structlog.typing import EventDict

from common.errors import FatalError, StoreError
from common.ids import new_id
from common.protocol.messages import Entry
from common.protocol.replication import Record
from nodes.replication.core.effects import Range
from nodes.storage import sqlite
from nodes.storage.database import BUSY_MS
from nodes.storage.protocol import KEY_S, Claim, Observers, digest
from nodes.storage.sqlite import SqliteJournal, open_journal
from scripts.launcher.processes import ROOT

ONE = 11  # an incarnation
FIXTURE = Path(__file__).with_name("journal-format-1.sqlite")  # written by version 1: 20 messages, 5 of them with keys

# The tables of version 1.
FORMAT_1 = (
    "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS messages (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
        msg TEXT NOT NULL, key TEXT, origin TEXT NOT NULL, crc INTEGER NOT NULL)""",
    "CREATE TABLE IF NOT EXISTS keys (key TEXT PRIMARY KEY, id TEXT, digest TEXT, made_s REAL) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS keys_by_age ON keys (made_s)",
    "CREATE TABLE IF NOT EXISTS cursors (journal TEXT PRIMARY KEY, seq INTEGER, whole INTEGER, address TEXT)",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a journal in a folder that does not exist yet."""
    return tmp_path / "folder" / "x.sqlite"


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Make every transaction count as fast, whatever the disk of the machine does."""
    monkeypatch.setattr(sqlite, "SHORT_S", 60.0)
    return monkeypatch


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB; skips the test where mounting is not permitted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if os.getuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk, and not in every container")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def opened(path: Path, address: str = "a:1") -> "closing[SqliteJournal]":
    """The journal of a node, closed at the end of the block."""
    return closing(SqliteJournal(path, "test", address))


def entries(count: int, text: str = "text") -> list[Entry]:
    """New messages."""
    return [Entry(new_id(), f"{number} {text}") for number in range(count)]


def ranged(messages: Sequence[Entry], *, after: int = 0, key: str | None = None) -> Range:
    """The messages as records of the incarnation ONE."""
    records = tuple(Record(number, *entry, key) for number, entry in enumerate(messages, after + 1))
    return Range(ONE, after, after + len(records), records)


def execute(path: Path, *statements: str) -> None:
    """Run statements on a file from outside the journal."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def run_apart(path: Path, steps: str, *, under: Sequence[str] = ()) -> str:
    """Run the steps on a journal in another process, for faults that affect a whole process; returns its output."""
    program = f"""
        import asyncio, pathlib, resource
        from common.errors import StoreError
        from common.ids import new_id
        from common.protocol.replication import Record
        from nodes.replication.core.effects import Range
        from nodes.storage.sqlite import open_journal

        path = pathlib.Path({str(path)!r})
        done = 0

        def limit(size_bytes):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))

        async def commit(journal, count, text="x" * 100):
            global done
            records = tuple(Record(done + 1 + number, new_id(), text, None) for number in range(count))
            await journal.commit([Range({ONE}, done, done + count, records)], None)
            done += count

        async def run():
            async with open_journal(path, "test", "a:1") as journal:
{textwrap.indent(textwrap.dedent(steps), " " * 16)}

        asyncio.run(run())
        """
    done = subprocess.run(
        [*under, sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert "" == done.stderr
    return done.stdout


def test_only_one_process_at_a_time_opens_a_journal(path: Path) -> None:
    """Opening a journal that is open, in the same process or in another one, fails."""
    with opened(path):
        with pytest.raises(FatalError, match=r"cannot use .*x\.sqlite as a journal: another logging node uses it"):
            SqliteJournal(path, "test", "a:1")
        imports = "from pathlib import Path; import sys; from nodes.storage.sqlite import SqliteJournal"
        program = f"{imports}; SqliteJournal(Path(sys.argv[1]), 'test', 'a:1')"
        command = [sys.executable, "-c", program, str(path)]
        other = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
        assert "another logging node uses it" in other.stderr
    with opened(path):
        pass


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    """A file of other content, or a folder in its place, raises FatalError, and the lock is released."""
    (tmp_path / "x.sqlite").write_bytes(b"nonsense" * 1_000)
    with pytest.raises(FatalError, match=r"cannot use .*x\.sqlite as a journal: file is not a database"):
        SqliteJournal(tmp_path / "x.sqlite", "test", "a:1")
    with pytest.raises(FatalError, match="cannot use"):
        SqliteJournal(tmp_path, "test", "a:1")
    (tmp_path / "x.sqlite").unlink()
    with opened(tmp_path / "x.sqlite"):
        pass


def test_a_journal_of_another_cluster_or_format_is_refused(path: Path) -> None:
    """The error names the found and the expected value."""
    with opened(path):
        pass
    with pytest.raises(FatalError, match=r"x\.sqlite is a journal of cluster 'test', not 'two'"):
        SqliteJournal(path, "two", "a:1")
    execute(path, "UPDATE meta SET value = '0' WHERE name = 'format'")
    with pytest.raises(FatalError, match=r"x\.sqlite is a journal of format '0', not '2'"):
        SqliteJournal(path, "test", "a:1")


def test_a_journal_of_another_node_gets_a_new_name(path: Path, logged: list[EventDict]) -> None:
    """A file from another address may be a copy: it is opened under a new name, and a warning is logged."""
    with opened(path) as journal:
        name = journal.name
    with opened(path) as journal:
        assert name == journal.name
    assert [] == logged
    with opened(path, "b:2") as journal:
        assert name != journal.name
    assert [("the journal was made by another node", "a:1")] == [(line["event"], line["node"]) for line in logged]


def test_each_opening_draws_a_new_incarnation(path: Path) -> None:
    """An incarnation has 63 bits, is never 0, and differs from all in the file."""
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


def test_messages_of_its_own_incarnations_have_its_address(path: Path) -> None:
    """Arrivals have the own address even before an in-sync set is committed."""

    async def run(journal: SqliteJournal) -> None:
        messages = entries(2)
        for number, origin in enumerate([journal.opened.incarnation, await journal.new_incarnation()]):
            await journal.commit([Range(origin, 0, 1, (Record(1, *messages[number], None),))], None)
        assert ["a:1", "a:1"] == [arrival.node for arrival in await journal.arrivals(0, 2)]

    with opened(path) as journal:
        asyncio.run(run(journal))


def test_the_file_is_closed_at_the_end(path: Path) -> None:
    """`open_journal` closes the file, so that it can be opened again; `size` reports messages, bytes and last flush."""

    async def run() -> None:
        commits_s: list[float] = []
        async with open_journal(path, "test", "a:1", observers=Observers(commits_s.append)) as journal:
            await journal.commit([ranged(entries(3))], None)
            size = await journal.size()
            assert 1 == len(commits_s)
            assert 3 == size.messages
            assert size.bytes >= path.stat().st_size > 0
            assert size.flushed_ms > 1_700_000_000_000
        async with open_journal(path, "test", "a:1") as journal:
            assert 0 == (await journal.size()).flushed_ms

    asyncio.run(run())


def test_a_key_expires_after_a_day(path: Path) -> None:
    """An expired key may be used again; its age is that of its message's id."""
    now_s = 1_000_000.0
    first, second = f"{int(now_s * 1_000):012x}", f"{int((now_s + KEY_S + 1) * 1_000):012x}"
    made = [f"{stamp[:8]}-{stamp[8:]}-7000-8000-000000000000" for stamp in (first, second)]

    async def run() -> None:
        time_s = [now_s]
        with closing(SqliteJournal(path, "test", "a:1", clock=lambda: time_s[0])) as journal:
            await journal.commit([ranged([Entry(made[0], "x")], key="key")], None)
            time_s[0] += KEY_S
            assert Claim(made[0], digest("x")) == await journal.find_key("key")
            time_s[0] += 1
            assert await journal.find_key("key") is None
            await journal.commit([ranged([Entry(made[1], "y")], after=1, key="key")], None)
            assert Claim(made[1], digest("y")) == await journal.find_key("key")

    asyncio.run(run())


def test_a_lock_of_another_program_fails_one_commit(path: Path) -> None:
    """A commit fails while another program holds the lock for too long; the next commit succeeds."""

    async def run(journal: SqliteJournal) -> None:
        messages = entries(1)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match="the journal failed: database is locked"):
                await journal.commit([ranged(messages)], None)
        await journal.commit([ranged(messages)], None)
        assert messages == await journal.read("", 10)
        assert not journal.broken.is_set()

    with opened(path) as journal:
        asyncio.run(run(journal))


def test_a_full_disk_fails_one_commit(small_disk: Path) -> None:
    """Nothing of the failed commit is stored; commits succeed when there is room again."""

    async def run(journal: SqliteJournal) -> None:
        first, large, last = entries(1), entries(100, "x" * 20_000), entries(1)
        await journal.commit([ranged(first)], None)
        with pytest.raises(StoreError, match="the journal failed: database or disk is full"):
            await journal.commit([ranged(large, after=1)], None)
        assert first == await journal.read("", 1_000)
        await journal.commit([ranged(last, after=1)], None)
        assert first + last == await journal.read("", 1_000)
        assert not journal.broken.is_set()

    with opened(small_disk / "x.sqlite") as journal:
        asyncio.run(run(journal))


def test_a_file_size_limit_fails_one_commit(path: Path) -> None:
    """EFBIG and quotas are handled like a full disk."""
    steps = """
        await commit(journal, 1)
        limit(100_000)
        try:
            await commit(journal, 1_000, "x" * 1_000)
        except StoreError as error:
            print(error)
        print(len(await journal.read("", 10)), journal.broken.is_set())
        limit(resource.RLIM_INFINITY)
        await commit(journal, 1_000)
        print((await journal.size()).messages, len((await journal.load(11, 0, 2)).records))
        """
    assert ["the journal failed: disk I/O error", "1 False", "1001 2"] == run_apart(path, steps).splitlines()


def test_a_flush_that_fails_breaks_the_journal(path: Path) -> None:
    """After it the operating system may report pages as written that are not on the disk, so nothing is retried."""
    inject = ["strace", "-f", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=20"]
    if not shutil.which("strace") or subprocess.run([*inject, "true"], check=False, capture_output=True).returncode:
        pytest.skip("only strace can make a disk fail")
    steps = """
        try:
            while not journal.broken.is_set():
                await commit(journal, 1)
        except StoreError as error:
            print(error)
        for _ in range(2):
            try:
                await journal.read("", 10)
            except StoreError as error:
                print(error)
        """
    assert [f"the journal is broken: {path}: disk I/O error"] * 3 == run_apart(path, steps, under=inject).splitlines()


def test_a_failed_checkpoint_fails_the_next_commit(path: Path) -> None:
    """Earlier commits are stored; later ones fail until there is room for the checkpoint."""
    steps = """
        while path.stat().st_size < 8_000_000:
            await commit(journal, 1_000)
        limit(path.stat().st_size)
        try:
            while True:
                await commit(journal, 100)
        except StoreError as error:
            print(error)
        before = done
        try:
            await commit(journal, 1)
        except StoreError as error:
            print(error)
        limit(resource.RLIM_INFINITY)
        await commit(journal, 1)
        print(done - before, (await journal.size()).messages - before, journal.broken.is_set())
        """
    warning, *printed = run_apart(path, steps).splitlines()
    assert "the journal's log could not be copied into its file" in warning
    assert ["the journal failed: disk I/O error"] * 2 + ["1 1 False"] == printed


def test_checkpoints_bound_the_log(path: Path) -> None:
    """The log is copied into the file regularly, so that it does not grow and opening stays fast."""

    async def run(journal: SqliteJournal) -> None:
        for number in range(20):
            await journal.commit([ranged(entries(1_000, "x" * 500), after=number * 1_000)], None)
        assert path.stat().st_size > 5_000_000
        assert Path(f"{path}-wal").stat().st_size < 10_000_000

    with opened(path) as journal:
        asyncio.run(run(journal))


def test_a_large_log_is_emptied_when_nobody_reads_it(path: Path) -> None:
    """A reader of the log delays that, but no commit."""
    log = Path(f"{path}-wal")

    async def run(journal: SqliteJournal) -> None:
        await journal.commit([ranged(entries(1))], None)
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM messages").fetchone()
            await journal.commit([ranged(entries(1_000, "x" * 20_000), after=1)], None)
            await journal.commit([ranged(entries(1), after=1_001)], None)
            assert log.stat().st_size > 16_777_216
        await journal.commit([ranged(entries(1), after=1_002)], None)
        await journal.commit([ranged(entries(1), after=1_003)], None)
        assert log.stat().st_size < 1_000_000
        assert 1_004 == (await journal.size()).messages

    with opened(path) as journal:
        asyncio.run(run(journal))


def test_a_journal_whose_file_was_removed_is_broken(path: Path) -> None:
    """Commits fail, because writes to a removed file would be lost."""

    async def run(journal: SqliteJournal) -> None:
        await journal.commit([ranged(entries(1))], None)
        for file in path.parent.glob("x.sqlite*"):
            file.unlink()
        with pytest.raises(StoreError, match=r"the journal is broken: .*x.sqlite: the file is gone"):
            await journal.commit([ranged(entries(1), after=1)], None)
        assert journal.broken.is_set()
        with pytest.raises(StoreError, match=r"the journal is broken: .*x.sqlite: the file is gone"):
            await journal.read("", 10)

    with opened(path) as journal:
        asyncio.run(run(journal))


def test_a_check_succeeds_while_peers_send_messages(path: Path) -> None:
    """A starting node checks its journal and receives missing messages at the same time."""

    async def run(journal: SqliteJournal) -> None:
        await journal.commit([ranged(entries(5_000))], None)
        checking = asyncio.create_task(journal.check())
        after = 5_000
        while not checking.done():
            await journal.commit([ranged(entries(1), after=after)], None)
            after += 1
        await checking
        assert after > 5_000

    with opened(path) as journal:
        asyncio.run(run(journal))


def test_a_damaged_message_is_never_served(path: Path) -> None:
    """Reading a changed text breaks the journal, and `check` finds it after the next opening."""

    async def damage(journal: SqliteJournal) -> None:
        (entry,) = messages = entries(1)
        await journal.commit([ranged(messages)], None)
        await journal.check()
        execute(path, "UPDATE messages SET msg = 'test'")
        with pytest.raises(StoreError, match=f"the message {entry.id} is damaged"):
            await journal.load(ONE, 0, 1)
        assert journal.broken.is_set()
        assert f"{path}: the message {entry.id} is damaged" == journal.why
        with pytest.raises(StoreError, match="the journal is broken"):
            await journal.commit([ranged(entries(1), after=1)], None)

    async def check(journal: SqliteJournal) -> None:
        with pytest.raises(FatalError, match=r"x.sqlite: the message .* is damaged; .* wipe"):
            await journal.check()

    for steps in (damage, check):
        with opened(path) as journal:
            asyncio.run(steps(journal))


def test_a_damaged_page_is_found(path: Path) -> None:
    """A page that was overwritten on the disk breaks the journal."""

    async def fill(journal: SqliteJournal) -> None:
        await journal.commit([ranged(entries(1_000, "x" * 500))], None)

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


def test_the_torn_end_of_a_journal_is_cut(path: Path, tmp_path: Path, logged: list[EventDict]) -> None:
    """A commit that a power failure left incomplete is dropped, and logged; earlier commits are kept."""
    copy = tmp_path / "copy.sqlite"
    messages = entries(3, "x" * 5_000)

    async def fill(journal: SqliteJournal) -> None:
        for number, entry in enumerate(messages):
            await journal.commit([ranged([entry], after=number)], None)
        shutil.copy(path, copy)  # the disk while the node runs, without the last 3,000 bytes
        Path(f"{copy}-wal").write_bytes(Path(f"{path}-wal").read_bytes()[:-3_000])

    async def reopened(journal: SqliteJournal) -> None:
        assert {ONE: 2} == journal.opened.vector
        assert messages[:2] == await journal.read("", 10)
        await journal.check()
        await journal.commit([ranged(messages[2:], after=2)], None)
        assert messages == await journal.read("", 10)

    with opened(path) as journal:
        asyncio.run(fill(journal))
    with opened(copy) as journal:
        asyncio.run(reopened(journal))
    assert ["the end of the journal was not completely written, and is cut"] == [line["event"] for line in logged]


def test_space_of_expired_messages_is_returned(path: Path) -> None:
    """The file shrinks after `expire`."""

    async def run(journal: SqliteJournal) -> None:
        messages = entries(2_500, "x" * 1_000)
        await journal.commit([ranged(messages)], None)
        assert 2_500 == await journal.expire(messages[-1].id)

    with opened(path) as journal:
        asyncio.run(run(journal))
    assert path.stat().st_size < 1_000_000


def made_format_1(path: Path, name: str, messages: Sequence[Entry]) -> None:
    """Make a journal of format 1, from which the last message was removed."""
    path.parent.mkdir(exist_ok=True)
    execute(path, "PRAGMA auto_vacuum = INCREMENTAL", "PRAGMA journal_mode = WAL", *FORMAT_1)
    with closing(sqlite3.connect(path)) as connection, connection:
        meta = {"format": "1", "cluster": "test", "journal": name}
        connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        rows = [(*entry, zlib.crc32(f"{entry.id} {entry.msg}".encode())) for entry in [*messages, *entries(1)]]
        connection.executemany("INSERT INTO messages (id, msg, origin, crc) VALUES (?, ?, 'b:2', ?)", rows)
        connection.execute("DELETE FROM messages WHERE id = ?", (rows[-1][0],))
        connection.execute("INSERT INTO cursors VALUES ('other', 1, 1, 'b:2')")


def test_a_real_journal_of_version_1_is_converted(path: Path, logged: list[EventDict]) -> None:
    """Its messages become records of one incarnation in their old order; name, arrivals and keys are kept."""
    path.parent.mkdir()
    shutil.copy(FIXTURE, path)

    async def run(journal: SqliteJournal) -> None:
        await journal.check()
        (origin,) = journal.opened.vector
        found = await journal.load(origin, 0, 20)
        assert [(n + 1, f"message {n}", None if n % 4 else f"key-{n}") for n in range(20)] == [
            (record.sequence, record.msg, record.key) for record in found.records
        ]
        stored = [Entry(record.id, record.msg) for record in found.records]
        assert stored == await journal.read("", 100)
        assert [(n + 1, entry, "") for n, entry in enumerate(stored)] == await journal.arrivals(0, 20)
        assert 20 == sum(hour.messages for hour in (await journal.hours(0, stored[-1].id)).values())
        await journal.commit([ranged(entries(1))], None)
        assert 21 == journal.last_arrival()

    with opened(path) as journal:
        assert "f496fcda-e471-47b0-ac87-b0811f80f230" == journal.name
        asyncio.run(run(journal))
    assert [("the journal was converted", 20)] == [(line["event"], line["messages"]) for line in logged]
    with opened(path) as journal:
        assert [1, 20] == sorted(journal.opened.vector.values())


def test_the_keys_of_version_1_are_kept(path: Path) -> None:
    """A client that retries after the update finds its key."""
    path.parent.mkdir()
    shutil.copy(FIXTURE, path)
    with closing(sqlite3.connect(path)) as connection:
        message_id, made_s = connection.execute("SELECT id, made_s FROM keys WHERE key = 'key-4'").fetchone()
    with closing(SqliteJournal(path, "test", "a:1", clock=lambda: float(made_s) + 1)) as journal:
        assert Claim(message_id, digest("message 4")) == asyncio.run(journal.find_key("key-4"))


def test_converted_journals_exchange_missing_messages(tmp_path: Path) -> None:
    """Each journal has its own incarnation; messages that both have become aliases."""
    messages = entries(5)
    paths = [tmp_path / "one.sqlite", tmp_path / "two.sqlite"]
    made_format_1(paths[0], "name of one", messages[:4])
    made_format_1(paths[1], "name of two", messages[3:])

    async def run(one: SqliteJournal, two: SqliteJournal) -> None:
        ((origin_one, upto_one),) = one.opened.vector.items()
        ((origin_two, upto_two),) = two.opened.vector.items()
        assert [4, 2] == [upto_one, upto_two]
        assert origin_one != origin_two
        await one.commit([await two.load(origin_two, 0, upto_two)], None)
        await two.commit([await one.load(origin_one, 0, upto_one)], None)
        for journal in (one, two):
            assert messages == await journal.read("", 10)
            assert [4, 2] == [len((await journal.load(origin, 0, 9)).records) for origin in (origin_one, origin_two)]
        *numbers, last = [arrival.number for arrival in await one.arrivals(0, 100)]
        assert [1, 2, 3, 4] == numbers
        assert 5 < last == one.last_arrival()  # number 5 was removed before

    with opened(paths[0]) as one, opened(paths[1]) as two:
        asyncio.run(run(one, two))


def test_diverged_copies_are_converted_to_different_incarnations(tmp_path: Path) -> None:
    """Diverged copies have different records with equal numbers; equal files get the same incarnation."""
    messages = entries(5)
    found: list[int] = []
    for name, kept in (("a", messages[:4]), ("b", messages[:3]), ("c", messages[:3])):
        path = tmp_path / name / "x.sqlite"
        made_format_1(path, "one name", kept)
        with opened(path) as journal:
            found.extend(journal.opened.vector)
    assert found[0] != found[1] == found[2]


def test_an_empty_journal_of_version_1_is_converted(path: Path) -> None:
    """A journal without a name, whose node died early, can be converted."""
    path.parent.mkdir()
    execute(path, "PRAGMA journal_mode = WAL", *FORMAT_1)
    with opened(path) as journal:
        assert {} == journal.opened.vector
        asyncio.run(journal.commit([ranged(entries(1))], None))
        assert 1 == journal.last_arrival()


def test_commit_now_does_short_commits(tmp_path: Path, quick_disk: pytest.MonkeyPatch) -> None:
    """It commits in the caller's thread after a fast transaction; it leaves long or waiting commits to the writer."""

    async def run() -> None:
        with opened(tmp_path / "x.sqlite") as journal:
            assert not journal.commit_now([ranged(entries(1))], None)  # the speed of the disk is not known yet
            await journal.commit([ranged(entries(1))], None)

            assert journal.commit_now([ranged(entries(1), after=1)], None)
            assert journal.last_arrival() == 2
            assert not journal.commit_now([ranged(entries(sqlite.SHORT_RECORDS + 1), after=2)], None)
            assert not journal.commit_now([ranged(entries(1, "x" * sqlite.SHORT_CHARACTERS), after=2)], None)

            may_go = threading.Event()
            work = journal._writer.start(lambda _: may_go.wait(10))
            while not journal._writer._in_use.locked():
                await asyncio.sleep(0.001)
            assert not journal.commit_now([ranged(entries(1), after=2)], None)
            may_go.set()
            await work

            quick_disk.setattr(sqlite, "SHORT_S", 0.0)
            assert not journal.commit_now([ranged(entries(1), after=2)], None)
        with opened(tmp_path / "x.sqlite") as journal:
            assert journal.opened.vector[ONE] == 2

    asyncio.run(run())


@pytest.mark.usefixtures("quick_disk")
def test_commit_now_does_not_wait(tmp_path: Path) -> None:
    """It returns False at once if another program holds a lock, or the journal is closed."""

    async def run() -> None:
        with opened(tmp_path / "x.sqlite") as journal, closing(sqlite3.connect(tmp_path / "x.sqlite")) as other:
            await journal.commit([ranged(entries(1))], None)
            other.execute("BEGIN IMMEDIATE")
            began_s = time.monotonic()
            assert not journal.commit_now([ranged(entries(1), after=1)], None)
            assert time.monotonic() - began_s < BUSY_MS / 1_000
            other.rollback()
            await journal.commit([ranged(entries(1), after=1)], None)
            assert journal.commit_now([ranged(entries(1), after=2)], None)
        assert not journal.commit_now([ranged(entries(1), after=3)], None)

    asyncio.run(run())


@pytest.mark.usefixtures("quick_disk")
def test_commit_now_refuses_keyed_records(tmp_path: Path) -> None:
    """Storing a key also deletes all expired keys, maybe many."""

    async def run() -> None:
        with opened(tmp_path / "x.sqlite") as journal:
            await journal.commit([ranged(entries(1))], None)
            assert not journal.commit_now([ranged(entries(1), after=1, key="key")], None)

    asyncio.run(run())


@pytest.mark.usefixtures("quick_disk")
def test_commit_now_breaks_the_journal_like_commit(tmp_path: Path) -> None:
    """A missing file breaks the journal, and every later commit raises StoreError."""

    async def run() -> None:
        with opened(tmp_path / "x.sqlite") as journal:
            await journal.commit([ranged(entries(1))], None)
            (tmp_path / "x.sqlite").unlink()

            for _ in range(2):
                with pytest.raises(StoreError, match=r"the journal is broken: .*the file is gone"):
                    journal.commit_now([ranged(entries(1), after=1)], None)
            assert journal.broken.is_set()

    asyncio.run(run())
