"""Reads of messages from an SQLite journal, by id, by arrival, and by search.

A search is a scan of the messages in the order of their ids, in windows, with a deadline. Each window is filtered
twice. SQLite first drops the messages that cannot match, which it does faster than Python. Then
`common.protocol.search` compares the others, because SQLite ignores the case of ASCII letters only.

A full-text index (FTS5, trigrams) finds a rare text in milliseconds, but doubles the size of a journal and costs each
POST more than a tenth of its CPU time (docs/measurements.md). A scan costs nothing until somebody searches.
"""

import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from common import ids
from common.protocol.content import Entry, content_bytes
from common.protocol.messages import PAGE_BYTES, PAGE_MESSAGES
from common.protocol.search import Search, matcher
from nodes.storage.database import UnusableError
from nodes.storage.protocol import SCAN_S, Arrival, Matches, checksum

WINDOW_MESSAGES = 1_000  # between two looks at the clock: at most 64 MB of text, and about 1 ms for ordinary lines

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
    newest_first: bool,
    clock: Callable[[], float] = time.monotonic,
) -> Matches:
    """See Journal.search; `after` and `before` are exclusive bounds of the ids."""
    ends_s = clock() + SCAN_S
    order = "DESC" if newest_first else "ASC"
    condition, values = _condition(wanted)
    query, found, used_bytes = _WINDOW.format(condition, order), list[Entry](), 0
    while True:
        row = connection.execute(_END_OF_WINDOW.format(order), (after, before, WINDOW_MESSAGES - 1)).fetchone()
        end = row[0] if row else None
        for entry in (
            checked(*one) for one in connection.execute(query, (*_bounds(after, before, end, order), *values))
        ):
            if not matcher(wanted).matches(entry):
                continue
            found.append(entry)
            used_bytes += content_bytes(entry)
            if len(found) == limit or used_bytes >= PAGE_BYTES:
                return Matches(found, entry.id)
        if end is None or clock() > ends_s:
            return Matches(found, end)
        after, before = (after, end) if newest_first else (end, before)


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
        start = f"{json.dumps(name, ensure_ascii=False)}:"
        forms = [start + json.dumps(value, ensure_ascii=False)]
        if _NO_TEXT.fullmatch(value):  # so JSON may also have it without quotes
            forms.append(start + value)
        parts.append(_may_have("fields", forms, values))
    return " AND ".join(parts), values


def _may_have(column: str, parts: Sequence[str], values: list[str]) -> str:
    """A condition that holds if a column can contain one of some folded texts; adds its parameters to `values`.

    A column of ASCII letters folds to itself in lower case, as LIKE compares it. SQLite counts characters up to the
    first NUL, so a column of ASCII letters without NUL has as many bytes as characters.
    """
    conditions = [f"length({column}) <> length(CAST({column} AS BLOB))"]
    for part in parts:
        if part.isascii():
            conditions.append(f"{column} LIKE ? ESCAPE '\\'")
            values.append(f"%{_escaped(part)}%")
    return f"({' OR '.join(conditions)})"


def _escaped(text: str) -> str:
    """A text for LIKE in which no character has a special meaning."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def checked(message_id: str, text: str, fields: str, crc: int, node: str = "") -> Entry:
    """The entry of a row; raises UnusableError when its checksum is wrong."""
    if crc != checksum(message_id, text, fields):
        raise UnusableError(f"the message {message_id} is damaged")
    return Entry(message_id, text, fields, node=node)
