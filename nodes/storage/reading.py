"""Reads of messages from an SQLite journal, by id, by arrival, and by search.

A search is a scan of the messages in the order of their ids, in windows, with a deadline. Each window is filtered
twice. SQLite first drops the messages that cannot match, which it does faster than Python. Then
`common.protocol.search` compares the others, because SQLite ignores the case of ASCII letters only.

A full-text index (FTS5, trigrams) finds a rare text in milliseconds, but doubles the size of a journal and costs each
POST more than a tenth of its CPU time (docs/measurements.md). A scan costs nothing until somebody searches.
"""

import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from common import ids
from common.protocol.content import Entry, canonical, content_bytes
from common.protocol.messages import PAGE_BYTES, PAGE_MESSAGES
from common.protocol.search import Search, matcher
from nodes.storage.database import UnusableError
from nodes.storage.protocol import Arrival, Matches, checksum

FIRST_WINDOW = 64  # messages; 64 of the longest texts in another alphabet take 0.1 s
LARGEST_WINDOW = 8_192  # messages; bounds the time that a sudden change of their lengths can cost
WINDOW_S = 0.02  # time for one window: between two looks at the clock

_ENTRY = "id, msg, fields, crc, coalesce(address, '') FROM messages LEFT JOIN incarnations ON number = origin"
_READ = f"SELECT {_ENTRY} WHERE id > ? AND id < ? ORDER BY id {{}} LIMIT ?"
_BETWEEN = f"SELECT {_ENTRY} WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
_ARRIVALS = f"SELECT arrival, {_ENTRY} WHERE arrival > ? AND arrival <= ? ORDER BY arrival LIMIT ?"
_END_OF_WINDOW = "SELECT id FROM messages WHERE id > ? AND id < ? ORDER BY id {} LIMIT 1 OFFSET ?"
_WINDOW = f"SELECT {_ENTRY} WHERE id > ? AND id < ? AND {{}} ORDER BY id {{}}"
_NO_TEXT = re.compile(r"true|false|-?[0-9.e+-]+")  # a folded value that may stand for a boolean or a number


T = TypeVar("T")


def read(connection: sqlite3.Connection, after: str, before: str, limit: int, *, newest_first: bool) -> list[Entry]:
    """Read the first or last `limit` messages with an id above `after` and below `before`."""
    query = _READ.format("DESC" if newest_first else "ASC")
    return [checked(*row) for row in connection.execute(query, (after, before, limit))]


def between(connection: sqlite3.Connection, after: str, until: str) -> list[Entry]:
    """See Journal.between."""
    rows = connection.execute(_BETWEEN, (after, until, PAGE_MESSAGES))
    return list(_page((checked(*row) for row in rows), lambda entry: entry))


def arrivals(connection: sqlite3.Connection, after: int, upto: int) -> list[Arrival]:
    """See Journal.arrivals."""
    rows = connection.execute(_ARRIVALS, (after, upto, PAGE_MESSAGES))
    return list(_page((Arrival(arrival, checked(*row)) for arrival, *row in rows), lambda arrival: arrival.entry))


def _page(items: Iterable[T], entry: Callable[[T], Entry]) -> Iterator[T]:
    """Yield the first items, up to the one whose message reaches PAGE_BYTES."""
    used_bytes = 0
    for item in items:
        yield item
        used_bytes += content_bytes(entry(item))
        if used_bytes >= PAGE_BYTES:
            return


def search(
    connection: sqlite3.Connection,
    wanted: Search,
    after: str,
    before: str,
    limit: int,
    *,
    ends_s: float,
    newest_first: bool,
    clock: Callable[[], float] = time.monotonic,
) -> Matches:
    """See Journal.search.

    Args:
        connection: to the journal.
        wanted: the search.
        after: exclusive lower bound of the ids.
        before: exclusive upper bound.
        limit: limit on the messages that are found.
        ends_s: when to end, in the time of `clock`; the first window is always read.
        newest_first: descending order.
        clock: seconds from any start.
    """
    order = "DESC" if newest_first else "ASC"
    condition, values = _condition(wanted)
    query, found, used_bytes = _WINDOW.format(condition, order), list[Entry](), 0
    size, now_s = FIRST_WINDOW, clock()
    while True:
        row = connection.execute(_END_OF_WINDOW.format(order), (after, before, size - 1)).fetchone()
        end = row[0] if row else None
        rows = connection.execute(query, (*_bounds(after, before, end, order), *values))
        for entry in filter(matcher(wanted).matches, (checked(*one) for one in rows)):
            found.append(entry)
            used_bytes += content_bytes(entry)
            if len(found) == limit or used_bytes >= PAGE_BYTES:
                return Matches(found, entry.id)
        began_s, now_s = now_s, clock()
        if end is None or now_s > ends_s:
            return Matches(found, end)
        after, before = (after, end) if newest_first else (end, before)
        size = _next_size(size, now_s - began_s)


def _next_size(size: int, took_s: float) -> int:
    """The size of the next window, so that it takes about WINDOW_S: long texts and other alphabets take longer."""
    likely = int(size * WINDOW_S / max(took_s, 1e-6))
    return min(max(min(likely, 4 * size), 1), LARGEST_WINDOW)


def _bounds(after: str, before: str, end: str | None, order: str) -> tuple[str, str]:
    """The exclusive bounds of a window up to the id `end`, or of the last one."""
    if end is None:
        return after, before
    return (ids.previous(end), before) if order == "DESC" else (after, f"{end}~")  # ~ is above all of an id


def _condition(wanted: Search) -> tuple[str, list[str]]:
    """An SQL condition that holds for every message that can match, and its parameters."""
    folded = matcher(wanted)
    parts, values = ["1"], list[str]()
    if folded.contains:
        parts.append(_may_have("msg", [folded.contains], values))
    for name, value in folded.fields:
        start = f"{canonical(name)}:"
        forms = [start + canonical(value)]
        if _NO_TEXT.fullmatch(value):  # so JSON may also have it without quotes
            forms.append(start + value)
        parts.append(_may_have("fields", forms, values))
    return " AND ".join(parts), values


def _may_have(column: str, parts: Sequence[str], values: list[str]) -> str:
    """A condition that holds if a column can contain one of some folded texts; adds its parameters to `values`.

    Case folding equals `lower` for ASCII text only, so any other column may match. SQLite counts characters up to the
    first NUL, so a column is ASCII text without NUL if it has as many characters as bytes.
    """
    conditions = [f"length({column}) <> length(CAST({column} AS BLOB))"]
    for part in parts:
        if part.isascii():
            conditions.append(f"instr(lower({column}), ?)")  # LIKE takes a thousand times longer for a repetitive text
            values.append(part)
    return f"({' OR '.join(conditions)})"


def checked(message_id: str, text: str, fields: str, crc: int, node: str = "") -> Entry:
    """The entry of a row; raises UnusableError when its checksum is wrong."""
    if crc != checksum(message_id, text, fields):
        raise UnusableError(f"the message {message_id} is damaged")
    return Entry(message_id, text, fields, node=node)
