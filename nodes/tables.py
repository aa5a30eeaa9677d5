"""What the SQLite file of a journal looks like: its tables, and the statements on them."""

import sqlite3
import time
import uuid
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from common.errors import FatalError, StoreError
from common.ids import time_ms
from common.replication import Record
from common.wire import Entry
from nodes.store import KEY_S, digest

FREED_PAGES = 250  # 1 MB at a time, when messages have expired
FORMAT = "1"  # of the tables below

TABLES = (
    "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID",
    # AUTOINCREMENT: a number is never used again, whatever is deleted; peers remember how far they have read.
    """CREATE TABLE IF NOT EXISTS messages (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
        msg TEXT NOT NULL, key TEXT, origin TEXT NOT NULL, crc INTEGER NOT NULL)""",
    "CREATE TABLE IF NOT EXISTS keys (key TEXT PRIMARY KEY, id TEXT, digest TEXT, made_s REAL) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS keys_by_age ON keys (made_s)",
    "CREATE TABLE IF NOT EXISTS cursors (journal TEXT PRIMARY KEY, seq INTEGER, whole INTEGER, address TEXT)",
)

# The first 8 of 12 hexadecimal digits of the milliseconds: 65.5 s.
BY_MINUTE = "SELECT substr(id, 1, 8), count(*), sum(crc) FROM messages WHERE id > ? AND id <= ? GROUP BY 1"
EXPIRE = "DELETE FROM messages WHERE id IN (SELECT id FROM messages WHERE id <= ? ORDER BY id LIMIT ?)"
# `origin` is the node (host:port) from whose journal a message was fetched; ACCEPTED for this node's own.
ACCEPTED, FROM_MAP = "", "map"
KEEP = "INSERT OR IGNORE INTO messages (id, msg, key, origin, crc) VALUES (?, ?, ?, ?, ?)"
ACCEPT = """INSERT INTO messages (id, msg, key, origin, crc) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE
    SET origin = '', seq = (SELECT max(seq) + 1 FROM messages) WHERE origin <> ''"""
REMEMBER_KEY = "INSERT OR IGNORE INTO keys VALUES (?, ?, ?, ?)"
FORGET_KEYS = "DELETE FROM keys WHERE made_s < ?"
CLAIM = "SELECT id, digest FROM keys WHERE key = ? AND made_s >= ?"
READ_UP = "SELECT id, msg, crc FROM messages WHERE id > ? AND id < ? ORDER BY id LIMIT ?"
READ_DOWN = "SELECT id, msg, crc FROM messages WHERE id > ? AND id < ? ORDER BY id DESC LIMIT ?"
LAST = "SELECT coalesce(max(seq), 0) FROM messages"
SINCE = """SELECT seq, crc, origin, id, msg, key FROM messages
    WHERE seq > ? AND seq <= ? AND (origin = '' OR ? AND (? OR origin <> ?)) ORDER BY seq"""


def identity(connection: sqlite3.Connection, path: Path, cluster_name: str) -> str:
    """The uuid of the file; the first who opens it gives it one."""
    new = {"format": FORMAT, "cluster": cluster_name, "journal": str(uuid.uuid4())}
    connection.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", new.items())
    found: dict[str, str] = dict(connection.execute("SELECT name, value FROM meta").fetchall())
    for name in ("format", "cluster"):
        if found[name] != new[name]:
            raise FatalError(f"{path} is a journal of {name} {found[name]!r}, not {new[name]!r}")
    return found["journal"]


def insertion(records: Iterable[Record], origin: str) -> Callable[[sqlite3.Connection], None]:
    """Stores records that came from `origin`. The text of one that is there already stays as it is.

    One that came from a peer, and is accepted here when it is sent again, counts as new: that peer may be dead now.
    """

    def insert(connection: sqlite3.Connection) -> None:
        rows = [(one.id, one.msg, one.key, origin, checksum(one.id, one.msg)) for one in records]
        connection.executemany(KEEP if origin else ACCEPT, rows)
        if keys := [(one.key, one.id, digest(one.msg), time_ms(one.id) / 1_000) for one in records if one.key]:
            connection.execute(FORGET_KEYS, (time.time() - KEY_S,))
            connection.executemany(REMEMBER_KEY, keys)

    return insert


class UnusableError(StoreError):
    """Nothing that the file says can be relied on any more."""


def checked(message_id: str, text: str, crc: int) -> Entry:
    """The entry of a row; raises UnusableError when it is not what was written."""
    if crc != checksum(message_id, text):
        raise UnusableError(f"the message {message_id} is damaged")
    return Entry(message_id, text)


def checksum(message_id: str, text: str) -> int:
    """CRC-32 of a message, stored beside it."""
    return zlib.crc32(f"{message_id} {text}".encode())


def free_pages(connection: sqlite3.Connection) -> int:
    """Give so many free pages back to the file system; how many are left."""
    for _ in range(FREED_PAGES):
        connection.execute("PRAGMA incremental_vacuum(1)").fetchall()  # one step of it frees one page in any case
    return int(connection.execute("PRAGMA freelist_count").fetchone()[0])
