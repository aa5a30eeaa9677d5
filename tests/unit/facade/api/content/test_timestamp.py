"""Tests of facade.api.content.timestamp; `tests/unit/facade/api/test_query` has the forms of RFC 3339."""

import pytest

from common.errors import RequestError
from facade.api.content.timestamp import ms_of_value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-11-24T08:00:00Z", 1_795_507_200_000),
        ("2026-11-24T08:00:00.1234567Z", 1_795_507_200_124),
        (1_795_507_200, 1_795_507_200_000),
        (1_795_507_200.5, 1_795_507_200_500),
        (1_795_507_200_123, 1_795_507_200_123),
        (1_795_507_200_123_456, 1_795_507_200_123),
        (1_795_507_200_123_456_789, 1_795_507_200_123),
        (0, 1),
        (9.9e19, 99_000_000_000_000),
    ],
)
def test_a_time_may_be_a_text_or_a_number(value: object, expected: int) -> None:
    """The size of a number tells its unit, because each shipper has another one."""
    assert expected == ms_of_value(value, "ts")


@pytest.mark.parametrize(
    "value", [True, None, -1, float("inf"), float("nan"), 1e20, 10**400, "yesterday", "1795507200", [], {}]
)
def test_other_values_are_no_times(value: object) -> None:
    """The error names the member."""
    with pytest.raises(RequestError, match="ts must be a time as RFC 3339 has it"):
        ms_of_value(value, "ts")
