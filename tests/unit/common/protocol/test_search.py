"""Tests of common.protocol.search."""

import pytest

from common.protocol.content import Entry
from common.protocol.search import NO_SEARCH, Search, as_text, fields_of, matcher

ENTRY = Entry("i", "Disk FULL on straße", '{"level":"Error","n":5,"load":0.5,"on":true,"a.b":"%_"}')


@pytest.mark.parametrize(
    ("search", "found"),
    [
        (NO_SEARCH, True),
        (Search("full"), True),
        (Search("FULL ON"), True),
        (Search("STRASSE"), True),
        (Search("Straße"), True),
        (Search("fuller"), False),
        (Search("error"), False),
        (Search(fields=(("level", "error"),)), True),
        (Search(fields=(("level", "err"),)), False),
        (Search(fields=(("LEVEL", "error"),)), False),
        (Search(fields=(("n", "5"), ("load", "0.5"), ("on", "TRUE"), ("a.b", "%_"))), True),
        (Search(fields=(("n", "5"), ("on", "false"))), False),
        (Search(fields=(("host", ""),)), False),
        (Search("disk", (("level", "ERROR"),)), True),
        (Search("disc", (("level", "ERROR"),)), False),
    ],
)
def test_all_parts_of_a_search_must_match(search: Search, *, found: bool) -> None:
    """The text contains a part, and each field has a value; case does not matter, but in the names of fields."""
    assert found == matcher(search).matches(ENTRY)


def test_a_message_without_fields_has_no_values() -> None:
    """So a search for a field does not find it."""
    assert {} == fields_of("")
    assert not matcher(Search(fields=(("level", "error"),))).matches(Entry("i", "error"))


@pytest.mark.parametrize(("value", "text"), [("a", "a"), (5, "5"), (0.5, "0.5"), (True, "true")])
def test_a_value_is_compared_as_json_writes_it(value: str | float, text: str) -> None:
    """Text without quotes."""
    assert text == as_text(value)


def test_an_empty_search_is_false() -> None:
    """Then a page is read without a scan."""
    assert not NO_SEARCH
    assert Search("a")
    assert Search(fields=(("a", ""),))
