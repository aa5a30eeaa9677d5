"""Tests of nodes.storage.database through the journal that uses it: locks, disks that fail, the log."""

import asyncio
import shutil
import sqlite3
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from structlog.typing import EventDict

from common.errors import FatalError, StoreError
from nodes.storage.database import SIZE_CHECK_COMMITS
from nodes.storage.sqlite import SqliteJournal
from scripts.launcher.processes import ROOT
from tests.support.nodes.journals import ORIGIN, numbered_entries, opened, range_of


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB, for tests with the mark `needs("mount", "root")`."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def run_in_process(path: Path, steps: str, *, under: Sequence[str] = ()) -> str:
    """Run the steps on a journal in another process, for faults of a whole process; its output."""
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
            await journal.commit([Range({ORIGIN}, done, done + count, records)], None)
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


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Another connection that reads, and so keeps its snapshot of the log, while the block runs."""
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM messages").fetchone()
        yield


def test_a_journal_is_open_only_once(path: Path) -> None:
    """While it is open, another process, and another journal in the same process, are refused."""
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


def test_a_lock_of_another_program_fails_one_commit(path: Path) -> None:
    """A backup that holds the file too long fails a commit, and the next one succeeds."""

    async def run(journal: SqliteJournal) -> None:
        messages = numbered_entries(1)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match="the journal failed: database is locked"):
                await journal.commit([range_of(messages)], None)
        await journal.commit([range_of(messages)], None)
        assert messages == await journal.read("", 10)
        assert not journal.broken.is_set()

    with opened(path) as journal:
        asyncio.run(run(journal))


@pytest.mark.needs("mount", "root")
def test_a_full_disk_fails_one_commit(small_disk: Path) -> None:
    """Nothing of the failed commit is stored, and commits succeed once there is room again."""

    async def run(journal: SqliteJournal) -> None:
        first, large, last = numbered_entries(1), numbered_entries(100, "x" * 20_000), numbered_entries(1)
        await journal.commit([range_of(first)], None)
        with pytest.raises(StoreError, match="the journal failed: database or disk is full"):
            await journal.commit([range_of(large, after=1)], None)
        assert first == await journal.read("", 1_000)
        await journal.commit([range_of(last, after=1)], None)
        assert first + last == await journal.read("", 1_000)
        assert not journal.broken.is_set()

    with opened(small_disk / "x.sqlite") as journal:
        asyncio.run(run(journal))


def test_a_limit_on_the_file_size_fails_one_commit(path: Path) -> None:
    """EFBIG, or a quota, is treated like a full disk."""
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
    assert ["the journal failed: disk I/O error", "1 False", "1001 2"] == run_in_process(path, steps).splitlines()


@pytest.mark.needs("strace")
def test_a_failed_flush_breaks_the_journal(path: Path) -> None:
    """Later flushes may succeed although pages are not on the disk, so nothing is tried again."""
    inject = ["strace", "-f", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=20"]
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
    printed = run_in_process(path, steps, under=inject).splitlines()
    assert [f"the journal is broken: {path}: disk I/O error"] * 3 == printed


def test_a_failed_checkpoint_fails_the_next_commit(path: Path) -> None:
    """The commits before it are stored; later ones fail until there is room for the checkpoint."""
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
    warning, *printed = run_in_process(path, steps).splitlines()
    assert "the journal's log could not be copied into its file" in warning
    assert ["the journal failed: disk I/O error"] * 2 + ["1 1 False"] == printed


def test_checkpoints_keep_the_write_ahead_log_small(path: Path) -> None:
    """Otherwise the log would grow without limit, and opening the journal would take ever longer."""

    async def run(journal: SqliteJournal) -> None:
        for number in range(20):
            await journal.commit([range_of(numbered_entries(1_000, "x" * 500), after=number * 1_000)], None)
        assert path.stat().st_size > 5_000_000
        assert Path(f"{path}-wal").stat().st_size < 10_000_000

    with opened(path) as journal:
        asyncio.run(run(journal))


def test_a_large_log_is_truncated_once_no_reader_needs_it(path: Path) -> None:
    """A reader delays the truncation of the log, and no commit."""
    log = Path(f"{path}-wal")

    async def run(journal: SqliteJournal) -> None:
        await journal.commit([range_of(numbered_entries(1))], None)
        with reading(path):
            await journal.commit([range_of(numbered_entries(1_000, "x" * 20_000), after=1)], None)
            await journal.commit([range_of(numbered_entries(1), after=1_001)], None)
            assert log.stat().st_size > 16_777_216
        await journal.commit([range_of(numbered_entries(1), after=1_002)], None)
        await journal.commit([range_of(numbered_entries(1), after=1_003)], None)
        assert log.stat().st_size < 1_000_000
        assert 1_004 == (await journal.size()).messages

    with opened(path) as journal:
        asyncio.run(run(journal))


def test_a_long_log_is_truncated_although_few_pages_are_in_use(path: Path) -> None:
    """After a long read the log is written from its start again, and its file would stay long for ever."""
    log = Path(f"{path}-wal")

    async def run(journal: SqliteJournal) -> None:
        await journal.commit([range_of(numbered_entries(1))], None)
        with reading(path):
            await journal.commit([range_of(numbered_entries(1_000, "x" * 20_000), after=1)], None)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        with reading(path):
            for number in range(2):
                await journal.commit([range_of(numbered_entries(1), after=1_001 + number)], None)
            assert log.stat().st_size > 16_777_216
        for number in range(2 * SIZE_CHECK_COMMITS):
            await journal.commit([range_of(numbered_entries(1), after=1_003 + number)], None)
        assert log.stat().st_size < 5_000_000  # 1,000 pages of 4 KiB

    with opened(path) as journal:
        asyncio.run(run(journal))


def test_a_journal_is_readable_by_its_owner_only(path: Path) -> None:
    """Also one that an earlier version made for everybody."""
    with opened(path) as journal:
        asyncio.run(journal.commit([range_of(numbered_entries(1))], None))
    for file in path.parent.glob(f"{path.name}*"):
        file.chmod(0o644)
    with opened(path):
        modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.glob(f"{path.name}*")}

    assert {0o600} == modes


def test_the_torn_end_of_a_journal_is_cut(path: Path, tmp_path: Path, logged: list[EventDict]) -> None:
    """Writes that a power failure cut short are not served, everything before them is, and the log says so."""
    copy = tmp_path / "copy.sqlite"
    messages = numbered_entries(3, "x" * 5_000)

    async def fill(journal: SqliteJournal) -> None:
        for number, entry in enumerate(messages):
            await journal.commit([range_of([entry], after=number)], None)
        shutil.copy(path, copy)  # the files of a running node, without the last 3,000 bytes
        Path(f"{copy}-wal").write_bytes(Path(f"{path}-wal").read_bytes()[:-3_000])

    async def resume(journal: SqliteJournal) -> None:
        assert {ORIGIN: 2} == journal.opened.vector
        assert messages[:2] == await journal.read("", 10)
        await journal.check()
        await journal.commit([range_of(messages[2:], after=2)], None)
        assert messages == await journal.read("", 10)

    with opened(path) as journal:
        asyncio.run(fill(journal))
    with opened(copy) as journal:
        asyncio.run(resume(journal))
    assert ["the end of the journal was not completely written, and is cut"] == [line["event"] for line in logged]


def test_the_space_of_expired_messages_is_given_back(path: Path) -> None:
    """The file becomes smaller."""

    async def run(journal: SqliteJournal) -> None:
        messages = numbered_entries(2_500, "x" * 1_000)
        await journal.commit([range_of(messages)], None)
        assert 2_500 == await journal.expire(messages[-1].id)

    with opened(path) as journal:
        asyncio.run(run(journal))
    assert path.stat().st_size < 1_000_000
