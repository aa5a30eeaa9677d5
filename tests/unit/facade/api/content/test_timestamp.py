"""Tests of facade.api.content.timestamp; `tests/unit/facade/api/test_query` has the forms of RFC 3339."""

import pytest

from common.errors import RequestError
from facade.api.content.timestamp import ms_of_text, ns_of_value

SECOND = 1_795_507_200


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-11-24T08:00:00Z", SECOND * 10**9),
        ("2026-11-24T08:00:00.1234567Z", SECOND * 10**9 + 123_456_000),
        ("1900-01-01T00:00:00Z", 0),
        (SECOND, SECOND * 10**9),
        (SECOND + 0.5, SECOND * 10**9 + 500_000_000),
        (SECOND * 1_000 + 123, SECOND * 10**9 + 123_000_000),
        (SECOND * 10**6 + 123_456, SECOND * 10**9 + 123_456_000),
        (SECOND * 10**9 + 123_456_789, SECOND * 10**9 + 123_456_789),
        (0, 0),
    ],
)
def test_a_time_may_be_a_text_or_a_number(value: object, expected: int) -> None:
    """The size of a number tells its unit, because each shipper has another one."""
    assert expected == ns_of_value(value, "ts")


def test_a_bound_is_rounded_up() -> None:
    """So that a range from it has nothing earlier."""
    assert SECOND * 1_000 + 124 == ms_of_text("2026-11-24T08:00:00.1234567Z", "from")


@pytest.mark.parametrize(
    "value", [True, None, -1, float("inf"), float("nan"), 1e20, 10**400, "yesterday", "1795507200", [], {}]
)
def test_other_values_are_no_times(value: object) -> None:
    """The error names the member."""
    with pytest.raises(RequestError, match="ts must be a time as RFC 3339 has it"):
        ns_of_value(value, "ts")
