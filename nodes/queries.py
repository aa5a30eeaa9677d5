"""What is asked of the tables of a journal in more than one statement."""

import sqlite3

from common import ids
from common.replication import Fetched, Hour, Record, Scope
from common.wire import PAGE_BYTES, PAGE_MESSAGES, Entry, text_bytes
from nodes.tables import BY_MINUTE, LAST, SINCE, checked

HOUR_MS = 3_600_000
STEP_MS = 65_536  # the resolution of `hours`: what begins in an hour is counted there, also when it ends in the next


def between(connection: sqlite3.Connection, after: str, until: str) -> list[Entry]:
    """What has an id in (after, until], about PAGE_BYTES of it."""
    query = "SELECT id, msg, crc FROM messages WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
    found: list[Entry] = []
    used_bytes = 0
    for row in connection.execute(query, (after, until, PAGE_MESSAGES)):
        found.append(checked(*row))
        used_bytes += text_bytes(found[-1].msg)
        if used_bytes >= PAGE_BYTES:
            break
    return found


def hours(connection: sqlite3.Connection, from_hour: int, until: str) -> dict[int, Hour]:
    """What is there of each hour, from that one to the id `until`."""
    after = ids.last_id(from_hour * HOUR_MS - 1) if from_hour else ""
    found: dict[int, Hour] = {}
    for begin, messages, digest in connection.execute(BY_MINUTE, (after, until)):
        hour = int(begin, 16) * STEP_MS // HOUR_MS
        known = found.get(hour, Hour(hour, 0, 0))
        found[hour] = Hour(hour, known.messages + messages, known.digest + digest)
    return found


def since(connection: sqlite3.Connection, journal: str, seq: int, scope: Scope, node: str) -> Fetched:
    """What the journal of that name got after `seq` and is in the scope of a request of `node`, about PAGE_BYTES."""
    (last,) = connection.execute(LAST).fetchone()
    others, everything = scope is not Scope.ACCEPTED, scope is Scope.EVERYTHING
    records: list[Record] = []
    origins: list[str] = []
    used_bytes = 0
    for row_seq, crc, origin, *record in connection.execute(SINCE, (seq, last, others, everything, node)):
        records.append(Record(*record))
        checked(record[0], record[1], crc)
        used_bytes += text_bytes(record[1])
        if everything:
            origins.append(origin)
        if used_bytes >= PAGE_BYTES or len(records) == PAGE_MESSAGES:
            reached = row_seq
            break
    else:
        reached = last
    return Fetched(journal=journal, records=tuple(records), next=reached, more=reached < last, origins=tuple(origins))
