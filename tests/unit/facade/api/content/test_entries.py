"""Tests of facade.api.content.entries."""

import pytest

from common import ids
from common.errors import RequestError
from common.protocol.content import Entry
from facade.api.content.draft import Draft
from facade.api.content.entries import EntryMaker, scoped_key

NOW_MS = 1_795_507_200_000
DAY_MS = 86_400_000


def maker(retention_days: float = 0.0) -> EntryMaker:
    """A maker with a clock that stands still."""
    return EntryMaker(lambda: "new", retention_days=retention_days, now_ms=lambda: NOW_MS)


def test_a_draft_gets_a_new_id() -> None:
    """Its content stays as it is."""
    assert Entry("new", "a", '{"b":1}', "k") == maker().entry(Draft("a", '{"b":1}', "k"))


def test_records_keep_their_time_and_their_order() -> None:
    """Records of one millisecond sort by its parts, and then by their places in the batch."""
    drafts = [Draft(str(place), made_ns=(NOW_MS - 5) * 1_000_000 + place // 2 * 500) for place in range(1_000)]
    entries = [maker().entry(draft, place=place) for place, draft in enumerate(drafts)]

    assert entries == sorted(entries)
    assert {NOW_MS - 5} == {ids.time_ms(entry.id) for entry in entries}


@pytest.mark.parametrize(
    ("made_ms", "reason"),
    [
        (NOW_MS + 60_001, "over 60 s in the future"),
        (NOW_MS - 2 * DAY_MS, "older than the 2 days of retention"),
    ],
)
def test_a_record_out_of_time_is_an_error_of_its_own(made_ms: int, reason: str) -> None:
    """Nodes would refuse the whole batch, or drop the record in silence; the other records are stored."""
    drafts: list[Draft | RequestError] = [
        Draft("a"),
        Draft("b", made_ns=made_ms * 1_000_000),
        RequestError("not valid"),
    ]
    first, second, third = maker(2.0).entries(drafts, "")

    assert Entry("new", "a") == first
    assert isinstance(second, RequestError)
    assert reason in str(second)
    assert drafts[2] is third
    if made_ms < NOW_MS:
        assert isinstance(maker().entries(drafts, "")[1], Entry)


def test_keys_of_two_clients_are_different_keys() -> None:
    """With tokens; without a key there is none for any client."""
    assert "k" == scoped_key("k", "")
    assert "" == scoped_key("", "alice")
    assert 64 == len(scoped_key("k", "alice"))
    assert scoped_key("k", "alice") != scoped_key("k", "bob")


def test_a_record_with_a_key_must_be_younger_than_the_key() -> None:
    """A key is remembered for a day from the time in the id: then the record could be stored twice."""
    with pytest.raises(RequestError, match="a record with an idempotency key must not be older than a day"):
        maker().entry(Draft("a", key="k", made_ns=(NOW_MS - DAY_MS) * 1_000_000))
    assert "k" == maker().entry(Draft("a", key="k", made_ns=(NOW_MS - DAY_MS // 2) * 1_000_000)).key
