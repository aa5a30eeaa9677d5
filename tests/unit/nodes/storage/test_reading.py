"""Tests of nodes.storage.reading: scans of an SQLite journal; `test_protocol` has what they share with the twin."""

import itertools
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from common.protocol.content import Entry
from common.protocol.search import Search, as_text, fields_of
from nodes.storage import opening, reading, tables
from nodes.storage.protocol import ABOVE_ALL, Matches
from nodes.storage.reading import FIRST_WINDOW, WINDOW_S
from tests.support.nodes.journals import numbered_entries, range_of


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to an empty journal."""
    with closing(sqlite3.connect(tmp_path / "x.sqlite")) as opened:
        for statement in opening.SCHEMA:
            opened.execute(statement)
        yield opened


def scan(
    connection: sqlite3.Connection,
    wanted: Search,
    after: str = "",
    before: str = ABOVE_ALL,
    *,
    limit: int = 1_000,
    newest_first: bool = False,
    ends_s: float = float("inf"),
    clock: Callable[[], float] | None = None,
) -> Matches:
    """A search; by default without an end."""
    return reading.search(
        connection,
        wanted,
        after,
        before,
        limit,
        ends_s=ends_s,
        newest_first=newest_first,
        clock=clock or itertools.count(1.0).__next__,
    )


def test_a_scan_ends_at_its_deadline_and_goes_on_from_its_cursor(connection: sqlite3.Connection) -> None:
    """Each scan looks at the clock after a window; together they find everything once, in either order."""
    entries = numbered_entries(3 * FIRST_WINDOW + 1)
    tables.store(connection, tables.contents(connection), [range_of(entries)], None, 0.0)
    for newest_first in (False, True):
        found, after, before, scans = list[str](), "", ABOVE_ALL, 0
        cursor: str | None = ""
        while cursor is not None:
            page = scan(connection, Search("1 TEXT"), after, before, newest_first=newest_first, ends_s=0.0)
            found += [entry.msg for entry in page.entries]
            cursor, scans = page.next, scans + 1
            after, before = (after, cursor or "") if newest_first else (cursor or "", before)
        expected = [entry.msg for entry in entries if "1 text" in entry.msg]
        assert (expected[::-1] if newest_first else expected) == found
        assert 4 == scans


def test_windows_grow_while_they_are_fast_and_shrink_when_they_are_slow(connection: sqlite3.Connection) -> None:
    """So that short lines are scanned fast, and long ones do not exceed the deadline."""
    entries = numbered_entries(4_000)
    tables.store(connection, tables.contents(connection), [range_of(entries)], None, 0.0)
    for took_s, scanned in ((0.0, 21 * FIRST_WINDOW), (WINDOW_S * FIRST_WINDOW, FIRST_WINDOW + 2)):
        times = itertools.count(0.0, took_s)
        clock = partial(next, times) if took_s else iter([0.0, 0.0, 0.0, 1.0]).__next__
        page = scan(connection, Search("nothing"), ends_s=2.5 * took_s or 0.5, clock=clock)
        assert entries[scanned - 1].id == page.next


@pytest.mark.parametrize("text", ["100%", "a_b", "back\\slash", "ΣΊΣΥΦΟΣ", "nul\x00after", "STRASSE", "straße", "K"])
def test_every_text_is_found_by_its_parts(connection: sqlite3.Connection, text: str) -> None:
    """Characters with a meaning for SQLite are plain, and what it cannot compare is compared by Python."""
    (entry,) = numbered_entries(1, text)
    tables.store(connection, tables.contents(connection), [range_of([entry])], None, 0.0)
    for wanted in (text, text.swapcase(), text[1:], text.casefold()):
        page = scan(connection, Search(wanted))
        assert [entry.msg] == [one.msg for one in page.entries]
    assert [] == scan(connection, Search(f"{text}x")).entries


@pytest.mark.parametrize("value", ["error", "ERROR", "é", "É", '"', "%", "5", "-0.5", "1e+30", "true", "tab\t"])
def test_every_value_of_a_field_is_found(connection: sqlite3.Connection, value: str) -> None:
    """Text, numbers and booleans, however JSON writes them; other values and other names are not."""
    values: list[str | float] = ["Error", "É", '"', "%", 5, -0.5, 1e30, True, "tab\t"]
    texts = [json.dumps({"x": one, "level": one}, ensure_ascii=False, separators=(",", ":")) for one in values]
    entries = [Entry(entry.id, "a", text) for entry, text in zip(numbered_entries(len(texts)), texts, strict=True)]
    tables.store(connection, tables.contents(connection), [range_of(entries)], None, 0.0)
    wanted = Search(fields=(("level", value), ("x", value)))
    page = scan(connection, wanted)

    assert [value.casefold()] == [as_text(fields_of(one.fields)["level"]).casefold() for one in page.entries]
    for other in (Search(fields=(("Level", value),)), Search(fields=(("level", f"{value}x"),))):
        assert [] == scan(connection, other).entries


def test_a_page_of_matches_is_limited(connection: sqlite3.Connection) -> None:
    """It ends after the limit, or after about a mebibyte; the cursor is the last message."""
    entries = numbered_entries(40, "x" * 60_000)
    tables.store(connection, tables.contents(connection), [range_of(entries)], None, 0.0)
    for limit, expected in ((5, 5), (1_000, 18)):
        page = scan(connection, Search("x"), limit=limit)
        assert (expected, entries[expected - 1].id) == (len(page.entries), page.next)
