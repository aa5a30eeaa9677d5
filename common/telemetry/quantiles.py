"""Quantiles of measured values."""

from collections.abc import Sequence


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value (of ascending ones) that this share of them does not exceed; 0.0 when there is none."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0
