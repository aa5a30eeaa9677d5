"""Tests of common.batches."""

import pytest

from common.batches import batched


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([], []),
        ([1, 2, 3], [[1, 2, 3]]),
        ([1, 2, 3, 4], [[1, 2, 3], [4]]),  # too many
        ([60, 30, 20, 500, 90, 10], [[60, 30], [20], [500], [90, 10]]),  # too large together, and alone
    ],
)
def test_batches_are_limited_by_size_and_by_number(items: list[int], expected: list[list[int]]) -> None:
    """Items keep their order, none is left out, and a batch may be exactly at a limit."""
    assert expected == list(batched(items, abs, max_bytes=100, max_items=3))
