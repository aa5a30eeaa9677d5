"""Tests of nodes.storage.opening: journals of format 1 are converted."""

import asyncio
import shutil
import sqlite3
import zlib
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from structlog.typing import EventDict

from common.ids import new_id
from common.protocol.content import Entry
from common.protocol.search import Search
from nodes.storage.protocol import Arrival, Claim, digest
from nodes.storage.sqlite import SqliteJournal
from tests.support.nodes.journals import ORIGIN, execute, numbered_entries, opened, range_of

FIXTURE = Path(__file__).with_name("journal-format-1.sqlite")  # 20 messages, 5 of them with keys


# The tables of format 1.
FORMAT_1 = (
    "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS messages (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
        msg TEXT NOT NULL, key TEXT, origin TEXT NOT NULL, crc INTEGER NOT NULL)""",
    "CREATE TABLE IF NOT EXISTS keys (key TEXT PRIMARY KEY, id TEXT, digest TEXT, made_s REAL) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS keys_by_age ON keys (made_s)",
    "CREATE TABLE IF NOT EXISTS cursors (journal TEXT PRIMARY KEY, seq INTEGER, whole INTEGER, address TEXT)",
)


def make_format_1(path: Path, name: str, messages: Sequence[Entry]) -> None:
    """Make a journal of format 1, from which one message was removed at its end."""
    path.parent.mkdir(exist_ok=True)
    execute(path, "PRAGMA auto_vacuum = INCREMENTAL", "PRAGMA journal_mode = WAL", *FORMAT_1)
    with closing(sqlite3.connect(path)) as connection, connection:
        meta = {"format": "1", "cluster": "test", "journal": name}
        connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        rows = [
            (entry.id, entry.msg, zlib.crc32(f"{entry.id} {entry.msg}".encode()))
            for entry in [*messages, *numbered_entries(1)]
        ]
        connection.executemany("INSERT INTO messages (id, msg, origin, crc) VALUES (?, ?, 'b:2', ?)", rows)
        connection.execute("DELETE FROM messages WHERE id = ?", (rows[-1][0],))
        connection.execute("INSERT INTO cursors VALUES ('other', 1, 1, 'b:2')")


def test_a_real_journal_of_format_1_is_converted(path: Path, logged: list[EventDict]) -> None:
    """Its messages are records of one incarnation in their old order, and its name, arrivals and keys are kept."""
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
        assert [Arrival(n + 1, entry) for n, entry in enumerate(stored)] == await journal.arrivals(0, 20)
        assert 20 == sum(hour.messages for hour in (await journal.hours(0, stored[-1].id)).values())
        await journal.commit([range_of(numbered_entries(1))], None)
        assert 21 == journal.last_arrival()

    with opened(path) as journal:
        assert "f496fcda-e471-47b0-ac87-b0811f80f230" == journal.name
        asyncio.run(run(journal))
    assert [("the journal was converted", 20)] == [(line["event"], line["messages"]) for line in logged]
    with opened(path) as journal:
        assert [1, 20] == sorted(journal.opened.vector.values())


def test_the_keys_of_format_1_are_kept(path: Path) -> None:
    """A client that sends a key again after the update gets its first message."""
    path.parent.mkdir()
    shutil.copy(FIXTURE, path)
    with closing(sqlite3.connect(path)) as connection:
        message_id, made_s = connection.execute("SELECT id, made_s FROM keys WHERE key = 'key-4'").fetchone()
    with closing(SqliteJournal(path, "test", "a:1", clock=lambda: float(made_s) + 1)) as journal:
        assert Claim(message_id, digest(Entry("", "message 4"))) == asyncio.run(journal.find_key("key-4"))


def test_converted_journals_can_exchange_records(tmp_path: Path) -> None:
    """Each has an incarnation of its own, and messages that both had become aliases."""
    messages = numbered_entries(5)
    paths = [tmp_path / "one.sqlite", tmp_path / "two.sqlite"]
    make_format_1(paths[0], "name of one", messages[:4])
    make_format_1(paths[1], "name of two", messages[3:])

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
        assert 5 < last == one.last_arrival()  # number 5 is that of the message that was removed

    with opened(paths[0]) as one, opened(paths[1]) as two:
        asyncio.run(run(one, two))


def test_diverged_copies_are_converted_to_different_incarnations(tmp_path: Path) -> None:
    """Different records never share an origin and a sequence; equal files get the same incarnation."""
    messages = numbered_entries(5)
    found: list[int] = []
    for name, kept in (("a", messages[:4]), ("b", messages[:3]), ("c", messages[:3])):
        path = tmp_path / name / "x.sqlite"
        make_format_1(path, "one name", kept)
        with opened(path) as journal:
            found.extend(journal.opened.vector)
    assert found[0] != found[1] == found[2]


def test_an_empty_journal_of_format_1_is_converted(path: Path) -> None:
    """The journal may lack a name, if its node died before it had one."""
    path.parent.mkdir()
    execute(path, "PRAGMA journal_mode = WAL", *FORMAT_1)
    with opened(path) as journal:
        assert {} == journal.opened.vector
        asyncio.run(journal.commit([range_of(numbered_entries(1))], None))
        assert 1 == journal.last_arrival()


def test_a_journal_of_format_2_gets_fields(path: Path) -> None:
    """Its messages have none, and new ones may have some; checksums, arrivals and the version vector stay."""
    entries = numbered_entries(3)
    with opened(path) as journal:
        asyncio.run(journal.commit([range_of(entries)], None))
    execute(path, "ALTER TABLE messages DROP COLUMN fields", "UPDATE meta SET value = '2' WHERE name = 'format'")
    new = Entry(new_id(), "new", '{"level":"error"}')

    async def run(journal: SqliteJournal) -> None:
        await journal.check()
        assert {ORIGIN: 3} == dict(journal.opened.vector)
        await journal.commit([range_of([new], after=3)], None)
        assert [*entries, new] == await journal.read("", 10)
        assert [new] == (await journal.search(Search(fields=(("level", "ERROR"),)), "", 10)).entries

    with opened(path) as journal:
        asyncio.run(run(journal))
