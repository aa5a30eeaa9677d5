"""Tests of nodes.storage.reading: scans of an SQLite journal; `test_protocol` has what they share with the twin."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from common.protocol.content import Entry
from common.protocol.search import Search, as_text, fields_of
from nodes.storage import opening, reading, tables
from nodes.storage.protocol import ABOVE_ALL, SCAN_S
from nodes.storage.reading import WINDOW_MESSAGES
from tests.support.nodes.journals import numbered_entries, range_of


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to an empty journal."""
    with closing(sqlite3.connect(tmp_path / "x.sqlite")) as opened:
        for statement in opening.SCHEMA:
            opened.execute(statement)
        yield opened


def test_a_scan_ends_at_its_deadline_and_goes_on_from_its_cursor(connection: sqlite3.Connection) -> None:
    """Each scan looks at the clock after a window; together they find everything once, in either order."""
    entries = numbered_entries(3 * WINDOW_MESSAGES + 1)
    tables.store(connection, tables.contents(connection), [range_of(entries)], None, 0.0)
    for newest_first in (False, True):
        found, after, before, scans = list[str](), "", ABOVE_ALL, 0
        cursor: str | None = ""
        while cursor is not None:
            times = iter([0.0, SCAN_S + 0.001])
            scan = partial(reading.search, connection, Search("1 TEXT"), after, before, 1_000)
            page = scan(newest_first=newest_first, clock=times.__next__)
            found += [entry.msg for entry in page.entries]
            cursor, scans = page.next, scans + 1
            after, before = (after, cursor or "") if newest_first else (cursor or "", before)
        expected = [entry.msg for entry in entries if "1 text" in entry.msg]
        assert (expected[::-1] if newest_first else expected) == found
        assert 4 == scans


@pytest.mark.parametrize("text", ["100%", "a_b", "back\\slash", "ΣΊΣΥΦΟΣ", "nul\x00after", "STRASSE", "straße", "K"])
def test_every_text_is_found_by_its_parts(connection: sqlite3.Connection, text: str) -> None:
    """Characters with a meaning for SQLite are plain, and what it cannot compare is compared by Python."""
    (entry,) = numbered_entries(1, text)
    tables.store(connection, tables.contents(connection), [range_of([entry])], None, 0.0)
    for wanted in (text, text.swapcase(), text[1:], text.casefold()):
        page = reading.search(connection, Search(wanted), "", ABOVE_ALL, 10, newest_first=False)
        assert [entry.msg] == [one.msg for one in page.entries]
    assert [] == reading.search(connection, Search(f"{text}x"), "", ABOVE_ALL, 10, newest_first=False).entries


@pytest.mark.parametrize("value", ["error", "ERROR", "é", "É", '"', "%", "5", "-0.5", "1e+30", "true", "tab\t"])
def test_every_value_of_a_field_is_found(connection: sqlite3.Connection, value: str) -> None:
    """Text, numbers and booleans, however JSON writes them; other values and other names are not."""
    values: list[str | float] = ["Error", "É", '"', "%", 5, -0.5, 1e30, True, "tab\t"]
    texts = [json.dumps({"x": one, "level": one}, ensure_ascii=False, separators=(",", ":")) for one in values]
    entries = [Entry(entry.id, "a", text) for entry, text in zip(numbered_entries(len(texts)), texts, strict=True)]
    tables.store(connection, tables.contents(connection), [range_of(entries)], None, 0.0)
    wanted = Search(fields=(("level", value), ("x", value)))
    page = reading.search(connection, wanted, "", ABOVE_ALL, 10, newest_first=False)

    assert [value.casefold()] == [as_text(fields_of(one.fields)["level"]).casefold() for one in page.entries]
    for other in (Search(fields=(("Level", value),)), Search(fields=(("level", f"{value}x"),))):
        assert [] == reading.search(connection, other, "", ABOVE_ALL, 10, newest_first=False).entries


def test_a_page_of_matches_is_limited(connection: sqlite3.Connection) -> None:
    """It ends after the limit, or after about a mebibyte; the cursor is the last message."""
    entries = numbered_entries(40, "x" * 60_000)
    tables.store(connection, tables.contents(connection), [range_of(entries)], None, 0.0)
    for limit, expected in ((5, 5), (1_000, 18)):
        page = reading.search(connection, Search("x"), "", ABOVE_ALL, limit, newest_first=False)
        assert (expected, entries[expected - 1].id) == (len(page.entries), page.next)
