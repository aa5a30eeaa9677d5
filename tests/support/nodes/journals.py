"""SQLite journals in files, and records for them."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from common.ids import new_id
from common.protocol.content import Entry
from common.protocol.replication import Record
from nodes.replication.core.effects import Range
from nodes.storage.sqlite import SHORT_S, SqliteJournal

ORIGIN = 11  # the incarnation of the records that tests commit


def opened(path: Path, address: str = "a:1", *, short_s: float = SHORT_S) -> "closing[SqliteJournal]":
    """The journal of the node at an address, closed at the end of the block."""
    return closing(SqliteJournal(path, "test", address, short_s=short_s))


def numbered_entries(count: int, text: str = "text") -> list[Entry]:
    """New messages, whose texts begin with their numbers from 0 on."""
    return [Entry(new_id(), f"{number} {text}") for number in range(count)]


def range_of(entries: Sequence[Entry], *, origin: int = ORIGIN, after: int = 0, key: str | None = None) -> Range:
    """The messages as records of an origin, numbered from `after` + 1 on."""
    records = tuple(
        Record(number, entry.id, entry.msg, key, fields=entry.fields) for number, entry in enumerate(entries, after + 1)
    )
    return Range(origin, after, after + len(records), records)


def execute(path: Path, *statements: str) -> None:
    """Change a database file through a connection of its own."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
