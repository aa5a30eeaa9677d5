"""Tests of facade.api.query: the parameters of a read."""

import pytest

from common import ids
from common.errors import RequestError
from facade.api import query

ID = "01a20d87-7b0a-70c1-9ffa-9ccb986e879e"
HIGHER_ID = "01a20d88-7b0a-70c1-9ffa-9ccb986e879e"


def test_without_parameters_it_is_the_first_page() -> None:
    """All messages from the oldest on, a hundred per page."""
    assert ("", "", 100, False) == bounds({})


def test_a_cursor_continues_in_the_requested_order() -> None:
    """`after` means greater ids when the oldest come first, and smaller ids when the newest come first."""
    assert (ID, "", 7, False) == bounds({"after": ID.upper(), "limit": "7"})
    assert ("", ID, 100, True) == bounds({"after": ID, "order": "desc"})


def test_times_become_bounds_of_ids() -> None:
    """`from` is inclusive and `to` is exclusive; a cursor continues between them."""
    after, before, _, _ = bounds({"from": "2026-11-24T08:00:00Z", "to": "2026-11-24T09:00:00+01:00"})
    at_eight = ids.time_ms(before)

    assert at_eight == ids.time_ms(after) + 1 == 1_795_507_200_000
    assert ids.first_id(at_eight) == before
    assert ids.last_id(at_eight - 1) == after
    between = {"from": "1990-01-01T00:00:00Z", "after": HIGHER_ID, "to": "2026-11-24T08:00:00Z"}
    assert (HIGHER_ID, before) == bounds(between)[:2]
    assert ID == bounds({"order": "desc", "after": ID, "to": "2099-01-01T00:00:00Z"})[1]
    assert before == bounds({"order": "desc", "to": "2026-11-24T08:00:00Z"})[1]


def test_a_part_of_a_millisecond_is_rounded_up() -> None:
    """Ids have milliseconds: a message from the beginning of a millisecond is not after its middle."""
    exact, later = bounds({"from": "2026-11-24T08:00:00.000Z"}), bounds({"from": "2026-11-24T08:00:00.000001Z"})

    assert 1 == ids.time_ms(later[0]) - ids.time_ms(exact[0])


def test_the_next_page_has_the_same_parameters() -> None:
    """Only the cursor differs."""
    given = {"limit": "5", "from": "2026-11-24T08:00:00+00:00", "after": ID}

    following = query.parse(given).following(HIGHER_ID)
    assert f"limit=5&from=2026-11-24T08%3A00%3A00%2B00%3A00&after={HIGHER_ID}" == following


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"limit": "0"}, "limit must be a number from 1 to 1000"),
        ({"limit": "1001"}, "limit must be a number from 1 to 1000"),
        ({"limit": "٣"}, "limit must be a number"),
        ({"limit": ""}, "limit must be a number"),
        ({"after": "x"}, "after must be the id of a message"),
        ({"after": ID + "0"}, "after must be the id of a message"),
        ({"order": "up"}, "order must be asc or desc, not 'up'"),
        ({"from": "yesterday"}, "from must be a time as RFC 3339 has it"),
        ({"to": "2026-11-24T08:00:00"}, "to must be a time as RFC 3339 has it"),
        ({"form": "x"}, "there is no parameter 'form'; known: after, limit, from, to, order"),
    ],
)
def test_an_invalid_parameter_is_named(given: dict[str, str], message: str) -> None:
    """The error names the parameter and what is allowed."""
    with pytest.raises(RequestError, match=message):
        query.parse(given)


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1969-12-31T23:59:59+14:00"])
def test_times_that_no_id_can_have_are_accepted(moment: str) -> None:
    """They become the smallest or the largest id."""
    assert 36 == len(bounds({"from": moment})[0])
    assert 36 == len(bounds({"to": moment})[1])


def test_a_parameter_may_be_given_only_once() -> None:
    """With two values it is not clear which one is meant."""
    assert {"limit": "5"} == query.single({"limit": "5"})
    with pytest.raises(RequestError, match="limit is given 2 times"):
        query.single({"limit": ["5", "6"]})


def bounds(given: dict[str, str]) -> tuple[str, str, int, bool]:
    """What `after`, `before`, `limit` and `newest_first` are for these parameters."""
    found = query.parse(given)
    return found.after, found.before, found.limit, found.newest_first


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("2026-11-24t08:00:00z", "2026-11-24T08:00:00Z"),
        ("2026-11-24 08:00:00Z", "2026-11-24T08:00:00Z"),
        ("2026-11-24_08:00:00Z", "2026-11-24T08:00:00Z"),
        ("2026-11-24T08:00:00-00:00", "2026-11-24T08:00:00Z"),
        ("2026-11-24T09:30:00 01:30", "2026-11-24T08:00:00Z"),
        ("1990-12-31T23:59:60Z", "1991-01-01T00:00:00Z"),
        ("1990-12-31T15:59:60.5-08:00", "1991-01-01T00:00:00.5Z"),
        ("2026-11-24T08:00:00.1230000000000Z", "2026-11-24T08:00:00.123Z"),
        ("0000-01-01T00:00:00Z", "1969-12-31T00:00:00Z"),
        ("0001-01-01T00:00:00+23:59", "1969-12-31T00:00:00Z"),
        ("9999-12-31T23:59:60Z", "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_every_time_of_rfc_3339_is_taken(text: str, same_as: str) -> None:
    """Lower-case letters, a blank for T, leap seconds, any number of decimals, and offsets."""
    assert bounds({"from": same_as})[0][:8] == bounds({"from": text})[0][:8]
    assert bounds({"from": same_as}) == bounds({"from": text}) or text.startswith(("0", "9999"))


@pytest.mark.parametrize(
    "text", ["2026-11-24", "2026-11-24T08:00Z", "2026-11-24T08:00:00", "2026-11-24T24:00:00Z", "2026-11-24T08:00:61Z"]
)
def test_other_times_are_refused(text: str) -> None:
    """RFC 3339 needs seconds and an offset."""
    with pytest.raises(RequestError, match="from must be a time as RFC 3339 has it"):
        bounds({"from": text})
