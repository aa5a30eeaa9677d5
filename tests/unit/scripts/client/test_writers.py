"""Tests of scripts.client.writers."""

from scripts.client.writers import outage_s


def test_an_outage_is_the_longest_gap_that_overlaps_a_time_span() -> None:
    """Gaps that end before the span, or begin after it, do not count."""
    times = [0.0, 1.0, 5.0, 6.0, 8.0]

    assert [4.0, 4.0, 2.0, 1.0, 0.0] == [
        outage_s(times),
        outage_s(times, 2.0),
        outage_s(times, 5.0),
        outage_s(times, 5.0, 6.0),
        outage_s([], 1.0),
    ]
