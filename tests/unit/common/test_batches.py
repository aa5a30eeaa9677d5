"""Tests of common.sequences."""

import pytest

from common.batches import batched
from common.telemetry.quantiles import quantile


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([], []),
        ([1, 2, 3], [[1, 2, 3]]),
        ([1, 2, 3, 4], [[1, 2, 3], [4]]),  # no more seats
        ([60, 30, 20, 500, 90, 10], [[60, 30], [20], [500], [90, 10]]),  # too heavy together, and alone
    ],
)
def test_chunks_are_cut_by_weight_and_by_number(items: list[int], expected: list[list[int]]) -> None:
    """In order, nothing left out; exactly the limits fit."""
    assert expected == list(batched(items, abs, max_bytes=100, max_items=3))


def test_a_quantile_is_one_of_the_values() -> None:
    """The largest for all of them, and 0.0 of none."""
    assert 0.0 == quantile([], 0.5)
    assert (1.0, 3.0, 4.0) == tuple(quantile([1.0, 2.0, 3.0, 4.0], share) for share in (0.0, 0.5, 1.0))
