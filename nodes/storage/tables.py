"""The tables of an SQLite journal: statements, and functions that run them on a connection. Schema: opening.py."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from common.ids import last_id, time_ms
from common.protocol.content import Entry, content_bytes
from common.protocol.messages import PAGE_MESSAGES
from common.protocol.replication import HourDigest, InSyncSet, Record
from nodes.replication.core.effects import Range
from nodes.storage.protocol import HOUR_MS, KEY_S, LOAD_BYTES, Claim, checksum, decide, digest, hour_of
from nodes.storage.reading import checked

SHORT_RECORDS = 64  # limits of a commit in the event loop's thread, and:
SHORT_CHARACTERS = 65_536  # characters of its records
EXPIRE_MESSAGES = 1_000  # limit of messages removed in one transaction, so that commits get in between

_SET_META = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
_ADVANCE = "UPDATE incarnations SET upto = ? WHERE number = ?"
_NAME_NODE = """INSERT INTO incarnations (address, incarnation) VALUES (?, ?)
    ON CONFLICT (incarnation) DO UPDATE SET address = excluded.address"""
_INSERT = """INSERT INTO messages (id, msg, key, origin, sequence, crc, term, fields) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO NOTHING"""
_INSERTED = "SELECT id, origin, sequence, crc FROM messages WHERE arrival > ?"
_COMPLETE_KEY = "UPDATE messages SET key = ?, term = ? WHERE id = ? AND key IS NULL"
_ADD_HOUR = """INSERT INTO hours VALUES (?, ?, ?)
    ON CONFLICT (hour) DO UPDATE SET messages = messages + excluded.messages, digest = digest + excluded.digest"""
_FORGET_KEYS = "DELETE FROM keys WHERE made_s < ?"
_REMEMBER_KEY = "INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?, ?)"
_FIND_KEY = "SELECT id, digest, term FROM keys WHERE key = ? AND made_s >= ?"
_LOAD = """WITH found AS (SELECT number FROM incarnations WHERE incarnation = :origin)
    SELECT crc, sequence, id, msg, key, term, fields FROM messages
    WHERE origin = (SELECT number FROM found) AND sequence > :after AND sequence <= :upto UNION ALL
    SELECT crc, a.sequence, id, msg, key, a.term, fields FROM aliases AS a JOIN messages USING (id)
    WHERE a.origin = (SELECT number FROM found) AND a.sequence > :after AND a.sequence <= :upto
    ORDER BY 2 LIMIT :limit"""
_HOURS = """SELECT hour, messages, digest FROM hours WHERE hour >= :first AND hour <= :last UNION ALL
    SELECT :last, -count(*), -coalesce(sum(crc), 0) FROM messages WHERE id > :until AND id <= :end"""
_OLDEST = "SELECT id, crc FROM messages WHERE id <= ? ORDER BY id LIMIT ?"

_IN_SYNC = msgspec.json.Decoder(InSyncSet)

# id, text, key, origin, sequence, checksum, term, fields
Row = tuple[str, str, str | None, int, int | None, int, int, str]


class Version(NamedTuple):
    """The number of an incarnation in this file, and its entry of the version vector."""

    number: int
    upto: int


class Change(NamedTuple):
    """The effect of a transaction: messages inserted or removed, and new values for Contents."""

    messages: int
    versions: Mapping[int, Version] = {}
    last_arrival: int = 0
    floor: str = ""


@dataclass(slots=True)
class Contents:
    """The part of the tables that the writer caches in memory; updated after a commit, never before."""

    versions: dict[int, Version]
    last_arrival: int
    floor: str  # the highest id that retention removed

    def apply(self, change: Change) -> None:
        """Update the cache after a commit."""
        self.versions.update(change.versions)
        self.last_arrival = max(change.last_arrival, self.last_arrival)
        self.floor = max(change.floor, self.floor)


def contents(connection: sqlite3.Connection) -> Contents:
    """Read the part of the tables that the writer caches."""
    rows = connection.execute("SELECT incarnation, number, upto FROM incarnations")
    versions = {incarnation: Version(number, upto) for incarnation, number, upto in rows}
    last = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'messages'").fetchone()
    return Contents(versions, last[0] if last else 0, meta(connection).get("floor", ""))


def meta(connection: sqlite3.Connection) -> dict[str, str]:
    """Read the table meta."""
    return dict(connection.execute("SELECT name, value FROM meta").fetchall())


def set_meta(connection: sqlite3.Connection, values: Mapping[str, str]) -> None:
    """Write into the table meta."""
    connection.executemany(_SET_META, values.items())


def in_sync_set(connection: sqlite3.Connection) -> InSyncSet | None:
    """Read the last in-sync set that was stored, or None."""
    text = meta(connection).get("in_sync")
    return _IN_SYNC.decode(text) if text else None


def store(
    connection: sqlite3.Connection, cache: Contents, ranges: Sequence[Range], in_sync: InSyncSet | None, now_s: float
) -> Change:
    """Insert records, advance the vector, and write the in-sync set. See Journal.commit."""
    versions: dict[int, Version] = {}
    rows: list[Row] = []
    for part in ranges:
        number, upto = (
            versions.get(part.origin) or cache.versions.get(part.origin) or add_incarnation(connection, part.origin)
        )
        rows += [
            (message_id, text, key, number, sequence, checksum(message_id, text, fields), term, fields)
            for sequence, message_id, text, key, term, fields in part.records
            if sequence > upto
        ]
        versions[part.origin] = Version(number, max(upto, part.upto))
    connection.executemany(_ADVANCE, [(upto, number) for number, upto in versions.values()])
    if keyed := [row for row in rows if row[2]]:
        superseded = _claim(connection, keyed, now_s)
        rows = [row for row in rows if row[0] not in superseded]
    if in_sync:
        set_meta(connection, {"in_sync": msgspec.json.encode(in_sync).decode()})
        connection.executemany(_NAME_NODE, [(one.address, one.incarnation) for one in in_sync.members])
    messages, last_arrival = _insert(connection, cache, rows)
    return Change(messages, versions, last_arrival)


def repair(connection: sqlite3.Connection, cache: Contents, entries: Iterable[Entry]) -> Change:
    """Insert messages without an origin. See Journal.repair."""
    superseded = {row[0] for row in connection.execute("SELECT id FROM superseded")}
    rows: list[Row] = [
        (one.id, one.msg, None, 0, None, checksum(one.id, one.msg, one.fields), 0, one.fields)
        for one in entries
        if one.id not in superseded
    ]
    messages, last_arrival = _insert(connection, cache, rows)
    return Change(messages, {}, last_arrival)


def add_incarnation(connection: sqlite3.Connection, incarnation: int, address: str = "") -> Version:
    """Add an incarnation if it is missing; return its number and entry of the version vector."""
    connection.execute(
        "INSERT OR IGNORE INTO incarnations (incarnation, address) VALUES (?, ?)", (incarnation, address)
    )
    query = "SELECT number, upto FROM incarnations WHERE incarnation = ?"
    return Version(*connection.execute(query, (incarnation,)).fetchone())


def _claim(connection: sqlite3.Connection, keyed: Iterable[Row], now_s: float) -> set[str]:
    """Store the keys of rows, and remove the messages that yield to others. Returns the ids of the removed messages."""
    connection.execute(_FORGET_KEYS, (now_s - KEY_S,))
    superseded: set[str] = set()
    for message_id, text, key, *_, term, fields in keyed:
        row = connection.execute(_FIND_KEY, (key, 0)).fetchone()
        claim = Claim(message_id, digest(Entry(message_id, text, fields)), term)
        claim, loser = decide(Claim(*row) if row else None, claim)
        if claim != row:
            made_s = time_ms(claim.message_id) / 1_000
            connection.execute(_REMEMBER_KEY, (key, claim.message_id, claim.digest, made_s, claim.term))
        if loser:
            superseded.discard(claim.message_id)
            superseded.add(loser)
            connection.execute("DELETE FROM superseded WHERE id = ?", (claim.message_id,))
    for message_id in superseded:
        _supersede(connection, message_id)
    return superseded


def _supersede(connection: sqlite3.Connection, message_id: str) -> None:
    """Remove a message and its records permanently, because another message owns its key."""
    found = connection.execute("SELECT id, crc FROM messages WHERE id = ?", (message_id,)).fetchall()
    _count(connection, found, -1)
    connection.execute("DELETE FROM messages WHERE id = ?", (message_id,))
    connection.execute("DELETE FROM aliases WHERE id = ?", (message_id,))
    connection.execute("INSERT OR IGNORE INTO superseded VALUES (?)", (message_id,))


def _insert(connection: sqlite3.Connection, cache: Contents, rows: Sequence[Row]) -> tuple[int, int]:
    """Insert messages above the floor, or aliases if their ids exist.

    Returns: the number of inserted messages, and the number of the last arrival.
    """
    rows = [row for row in rows if row[0] > cache.floor]
    count = connection.executemany(_INSERT, rows).rowcount if rows else 0
    if count <= 0:
        _alias(connection, rows)
        return 0, cache.last_arrival
    if count == len(rows):
        _count(connection, ((row[0], row[5]) for row in rows))
    else:
        inserted = connection.execute(_INSERTED, (cache.last_arrival,)).fetchall()
        _count(connection, [(row[0], row[3]) for row in inserted])
        stored = {(origin, sequence) for _, origin, sequence, _ in inserted}
        _alias(connection, [row for row in rows if row[3:5] not in stored])
    return count, connection.execute("SELECT max(arrival) FROM messages").fetchone()[0]


def _alias(connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Store records whose ids exist as aliases; a message stored by a repair gets the key of its record."""
    rows = [row for row in rows if row[3]]
    aliases = [(origin, sequence, message_id, term) for message_id, _, _, origin, sequence, _, term, _ in rows]
    connection.executemany("INSERT OR IGNORE INTO aliases VALUES (?, ?, ?, ?)", aliases)
    connection.executemany(_COMPLETE_KEY, [(row[2], row[6], row[0]) for row in rows if row[2]])


def _count(connection: sqlite3.Connection, found: Iterable[tuple[str, int]], sign: int = 1) -> None:
    """Add (id, checksum) pairs to the digests of their hours, or subtract them (`sign` -1)."""
    by_time: dict[str, list[int]] = {}
    for message_id, crc in found:  # computes the hour once for all ids of a millisecond
        sums = by_time.setdefault(message_id[:13], [0, 0])
        sums[0] += sign
        sums[1] += sign * crc
    connection.executemany(_ADD_HOUR, [(hour_of(begin), *sums) for begin, sums in by_time.items()])


def load(connection: sqlite3.Connection, origin: int, after: int, upto: int) -> Range:
    """See Journal.load."""
    bounds = {"origin": origin, "after": after, "upto": upto, "limit": PAGE_MESSAGES}
    records: list[Record] = []
    used_bytes = 0
    for crc, *fields in connection.execute(_LOAD, bounds):
        record = Record(*fields)
        checked(record.id, record.msg, record.fields, crc)
        used_bytes += content_bytes(record)
        if records and used_bytes > LOAD_BYTES:
            return Range(origin, after, records[-1].sequence, tuple(records))
        records.append(record)
    return Range(origin, after, records[-1].sequence if len(records) == PAGE_MESSAGES else upto, tuple(records))


def find_key(connection: sqlite3.Connection, key: str, now_s: float) -> Claim | None:
    """See Journal.find_key."""
    row = connection.execute(_FIND_KEY, (key, now_s - KEY_S)).fetchone()
    return Claim(*row) if row else None


def hours(connection: sqlite3.Connection, from_hour: int, until: str, floor: str) -> dict[int, HourDigest]:
    """See Journal.hours; messages above `until` in its hour are subtracted, in the same snapshot."""
    first, last = max(from_hour, hour_of(floor) + 1 if floor else 0), hour_of(until)
    bounds = {"first": first, "last": last, "until": until, "end": last_id((last + 1) * HOUR_MS - 1)}
    found: dict[int, HourDigest] = {}
    for hour, messages, crcs in connection.execute(_HOURS, bounds):
        sums = found.get(hour, HourDigest(hour, 0, 0))
        found[hour] = HourDigest(hour, sums.messages + messages, sums.digest + crcs)
    return {hour: sums for hour, sums in found.items() if sums.messages > 0}


def message_count(connection: sqlite3.Connection) -> int:
    """The number of messages."""
    return int(connection.execute("SELECT coalesce(sum(messages), 0) FROM hours").fetchone()[0])


def expire(connection: sqlite3.Connection, until: str) -> Change:
    """Remove the first EXPIRE_MESSAGES messages up to the id `until`."""
    old = connection.execute(_OLDEST, (until, EXPIRE_MESSAGES)).fetchall()
    if not old:
        return Change(0)
    floor = old[-1][0]
    connection.execute("DELETE FROM messages WHERE id <= ?", (floor,))
    connection.execute("DELETE FROM aliases WHERE id <= ?", (floor,))
    connection.execute("DELETE FROM superseded WHERE id <= ?", (floor,))
    _count(connection, old, -1)
    connection.execute("DELETE FROM hours WHERE messages = 0")
    set_meta(connection, {"floor": floor})
    return Change(len(old), floor=floor)


def is_short(ranges: Sequence[Range]) -> bool:
    """True for a few small records without keys: storing a key also deletes all expired keys, maybe many."""
    records = [record for one in ranges for record in one.records]
    if len(records) > SHORT_RECORDS or any(record.key for record in records):
        return False
    return sum(len(record.msg) + len(record.fields) for record in records) <= SHORT_CHARACTERS
