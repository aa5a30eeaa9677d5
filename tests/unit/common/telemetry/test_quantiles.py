"""Tests of common.telemetry.quantiles."""

from common.telemetry.quantiles import quantile


def test_a_quantile_is_one_of_the_values() -> None:
    """The share 1.0 is the largest value; without values the quantile is 0.0."""
    assert 0.0 == quantile([], 0.5)
    assert (1.0, 3.0, 4.0) == tuple(quantile([1.0, 2.0, 3.0, 4.0], share) for share in (0.0, 0.5, 1.0))
