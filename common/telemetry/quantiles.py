"""Quantiles of measured values."""

from collections.abc import Sequence


def quantile(ordered: Sequence[float], share: float) -> float:
    """The quantile of ascending values; `share` is between 0 and 1. Returns 0.0 if there are no values."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0
