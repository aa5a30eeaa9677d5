"""Tests of facade.query."""

import pytest

from common import ids
from common.errors import RequestError
from facade.api import query

ID = "01a20d87-7b0a-70c1-9ffa-9ccb986e879e"
HIGHER = "01a20d88-7b0a-70c1-9ffa-9ccb986e879e"


def test_nothing_said_is_the_first_page() -> None:
    """Everything, from the oldest on, a hundred at a time."""
    assert ("", "", 100, False) == _bounds({})


def test_a_cursor_goes_on_in_the_order_that_was_asked_for() -> None:
    """After an id is above it when the oldest come first, and below it when the newest do."""
    assert (ID, "", 7, False) == _bounds({"after": ID.upper(), "limit": "7"})
    assert ("", ID, 100, True) == _bounds({"after": ID, "order": "desc"})


def test_times_are_bounds_of_ids() -> None:
    """`from` is in, `to` is not; a cursor goes on within them."""
    after, before, _, _ = _bounds({"from": "2026-11-24T08:00:00Z", "to": "2026-11-24T09:00:00+01:00"})
    at_eight = ids.time_ms(before)

    assert at_eight == ids.time_ms(after) + 1 == 1_795_507_200_000
    assert ids.first_id(at_eight) == before
    assert ids.last_id(at_eight - 1) == after
    assert (HIGHER, before) == _bounds({"from": "1990-01-01T00:00:00Z", "after": HIGHER, "to": "2026-11-24T08:00:00Z"})[
        :2
    ]
    assert ID == _bounds({"order": "desc", "after": ID, "to": "2099-01-01T00:00:00Z"})[1]
    assert before == _bounds({"order": "desc", "to": "2026-11-24T08:00:00Z"})[1]


def test_a_part_of_a_millisecond_is_rounded_up() -> None:
    """An id tells milliseconds: what was made within one is not before its middle."""
    exact, later = _bounds({"from": "2026-11-24T08:00:00.000Z"}), _bounds({"from": "2026-11-24T08:00:00.000001Z"})

    assert 1 == ids.time_ms(later[0]) - ids.time_ms(exact[0])


def test_the_next_page_has_the_same_parameters() -> None:
    """Only the cursor is another one."""
    given = {"limit": "5", "from": "2026-11-24T08:00:00+00:00", "after": ID}

    assert f"limit=5&from=2026-11-24T08%3A00%3A00%2B00%3A00&after={HIGHER}" == query.parse(given).following(HIGHER)


@pytest.mark.parametrize(
    ("given", "told"),
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
def test_a_wrong_parameter_is_named(given: dict[str, str], told: str) -> None:
    """The sentence says which, and what is allowed."""
    with pytest.raises(RequestError, match=told):
        query.parse(given)


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1969-12-31T23:59:59+14:00"])
def test_times_without_ids_are_the_first_and_the_last(moment: str) -> None:
    """What lies outside the times that an id can carry is no error."""
    assert 36 == len(_bounds({"from": moment})[0])
    assert 36 == len(_bounds({"to": moment})[1])


def test_a_parameter_is_given_once() -> None:
    """Of two values nobody knows which is meant."""
    assert {"limit": "5"} == query.single({"limit": "5"})
    with pytest.raises(RequestError, match="limit is given 2 times"):
        query.single({"limit": ["5", "6"]})


def _bounds(given: dict[str, str]) -> tuple[str, str, int, bool]:
    found = query.parse(given)
    return found.after, found.before, found.limit, found.newest_first
