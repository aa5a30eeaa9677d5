"""Steps of opening an SQLite journal: check its owner, convert old formats, draw an incarnation, check all messages."""

import hashlib
import sqlite3
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import structlog

from common.errors import FatalError
from nodes.replication.core.effects import Opened
from nodes.storage.database import UnusableError, snapshot
from nodes.storage.protocol import hour_of
from nodes.storage.reading import checked
from nodes.storage.tables import Contents, add_incarnation, contents, in_sync_set, meta, set_meta

log = structlog.get_logger()

FORMAT = "3"  # version of SCHEMA
_FORMAT_2 = "2"  # messages without fields
_FORMAT_1 = "1"  # messages numbered by arrival, without origins and sequences

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID",
    # `number` represents the incarnation in the other tables; `address` is the node that drew it, "" if unknown; `upto`
    # is its entry of the version vector.
    """CREATE TABLE IF NOT EXISTS incarnations (number INTEGER PRIMARY KEY, incarnation INTEGER NOT NULL UNIQUE,
        address TEXT NOT NULL DEFAULT '', upto INTEGER NOT NULL DEFAULT 0)""",
    # AUTOINCREMENT: arrival numbers are never reused after deletions, because followers remember the last one that they
    # have read. A message that was stored by a repair has no origin: its origin is 0, its sequence NULL.
    """CREATE TABLE IF NOT EXISTS messages (arrival INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
        msg TEXT NOT NULL, key TEXT, origin INTEGER NOT NULL, sequence INTEGER, crc INTEGER NOT NULL,
        term INTEGER NOT NULL DEFAULT 0, fields TEXT NOT NULL DEFAULT '')""",
    "CREATE INDEX IF NOT EXISTS messages_by_origin ON messages (origin, sequence)",
    # Records whose message was already stored by another record.
    """CREATE TABLE IF NOT EXISTS aliases (origin INTEGER, sequence INTEGER, id TEXT NOT NULL,
        term INTEGER NOT NULL, PRIMARY KEY (origin, sequence)) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS aliases_by_id ON aliases (id)",
    """CREATE TABLE IF NOT EXISTS keys (key TEXT PRIMARY KEY, id TEXT, digest TEXT, made_s REAL,
        term INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS keys_by_age ON keys (made_s)",
    # Ids of messages that were removed because another message owns their key.
    "CREATE TABLE IF NOT EXISTS superseded (id TEXT PRIMARY KEY) WITHOUT ROWID",
    # The digest is the sum of the checksums: below 2**63 for up to 2**31 messages.
    """CREATE TABLE IF NOT EXISTS hours (hour INTEGER PRIMARY KEY, messages INTEGER NOT NULL,
        digest INTEGER NOT NULL)""",
)

_ADD_FIELDS = "ALTER TABLE messages ADD COLUMN fields TEXT NOT NULL DEFAULT ''"
_COPY = """INSERT INTO messages SELECT seq, id, msg, key, ?, row_number() OVER (ORDER BY seq), crc, 0, ''
    FROM messages_1 ORDER BY seq"""
_COUNT = "INSERT INTO hours SELECT hour_of(id) AS hour, count(*), sum(crc) FROM messages GROUP BY hour"


class OpenedTables(NamedTuple):
    """The content of a file that was opened, and the incarnation that was added to it."""

    name: str
    contents: Contents
    opened: Opened


def open_tables(
    connection: sqlite3.Connection, path: Path, cluster_name: str, address: str, draw: Callable[[], int]
) -> OpenedTables:
    """Create, check or convert the tables. The caller runs this in a transaction.

    Raises:
        FatalError: the tables belong to another cluster, or have another format.
    """
    name = _identify(connection, path, cluster_name, address)
    connection.execute("DELETE FROM incarnations WHERE upto = 0")  # incarnations that stored nothing
    incarnation = new_incarnation(connection, address, draw)
    held = contents(connection)
    vector = {origin: version.upto for origin, version in held.versions.items() if version.upto}
    return OpenedTables(name, held, Opened(incarnation, vector, in_sync_set(connection)))


def new_incarnation(connection: sqlite3.Connection, address: str, draw: Callable[[], int]) -> int:
    """Draw an incarnation that is not in the file yet, and store it."""
    query = "SELECT 1 FROM incarnations WHERE incarnation = ?"
    while connection.execute(query, (incarnation := draw(),)).fetchone():
        pass
    add_incarnation(connection, incarnation, address)
    return incarnation


def _identify(connection: sqlite3.Connection, path: Path, cluster_name: str, address: str) -> str:
    """Create missing tables and store whose journal this is; return the name of the journal."""
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    found = meta(connection) if "meta" in tables else {}
    found_format = found.get("format") or (_FORMAT_1 if "messages" in tables else FORMAT)
    if found_format not in (FORMAT, _FORMAT_2, _FORMAT_1):
        raise FatalError(f"{path} is a journal of format {found_format!r}, not {FORMAT!r}")
    if found.get("cluster", cluster_name) != cluster_name:
        raise FatalError(f"{path} is a journal of cluster {found['cluster']!r}, not {cluster_name!r}")
    name = found.get("journal") or str(uuid.uuid4())
    if found_format == _FORMAT_1:
        _convert(connection, name)
    if found_format == _FORMAT_2:
        connection.execute(_ADD_FIELDS)
    for statement in SCHEMA:
        connection.execute(statement)
    if found.get("address", address) != address:
        log.warning("the journal was made by another node", path=str(path), node=found["address"])
        name = str(uuid.uuid4())
    set_meta(connection, {"format": FORMAT, "cluster": cluster_name, "journal": name, "address": address})
    return name


def _convert(connection: sqlite3.Connection, name: str) -> None:
    """Convert tables of format 1 (5 s for 1,000,000 messages); later messages reuse the space of the old tables.

    All messages become records of one incarnation, in order of arrival. Arrival numbers are kept, because followers
    remember them. Journals that were copies of each other may have diverged, so the incarnation is derived from their
    content, too.
    """
    count, crcs, last = connection.execute("SELECT count(*), sum(crc), max(seq) FROM messages").fetchone()
    digest = hashlib.sha256(f"{name} {count} {crcs} {last}".encode()).digest()
    incarnation = int.from_bytes(digest[:8], "big") >> 1 | 1  # like a drawn one: 63 bits, never 0
    connection.execute("ALTER TABLE messages RENAME TO messages_1")
    connection.execute("ALTER TABLE keys ADD COLUMN term INTEGER NOT NULL DEFAULT 0")
    for statement in SCHEMA:
        connection.execute(statement)
    number = add_incarnation(connection, incarnation).number
    connection.execute(_COPY, (number,))
    connection.execute("UPDATE incarnations SET upto = ? WHERE number = ?", (count, number))
    connection.create_function("hour_of", 1, hour_of, deterministic=True)
    connection.execute(_COUNT)
    _keep_last_arrival(connection)
    connection.execute("DROP TABLE messages_1")
    connection.execute("DROP TABLE IF EXISTS cursors")
    log.info("the journal was converted", messages=count, format=FORMAT)


def _keep_last_arrival(connection: sqlite3.Connection) -> None:
    """Continue the arrival numbers of messages_1, whose last messages may have been removed."""
    last = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'messages_1'").fetchone()
    connection.execute("DELETE FROM sqlite_sequence WHERE name = 'messages'")
    connection.execute("INSERT INTO sqlite_sequence VALUES ('messages', ?)", last or (0,))


def check_messages(connection: sqlite3.Connection) -> None:
    """Read every message once, in one snapshot, because peers may send messages meanwhile.

    Raises:
        UnusableError: a message is damaged or missing, or another program added one.
    """
    found: Counter[int] = Counter()
    with snapshot(connection):
        digests = dict(connection.execute("SELECT hour, digest FROM hours WHERE messages > 0"))
        for row in connection.execute("SELECT id, msg, fields, crc FROM messages"):
            found[hour_of(checked(*row).id)] += row[3]
    if digests != found:
        raise UnusableError("messages are gone, or another program has added some")
