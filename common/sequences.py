"""What is done with sequences in more than one place."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def chunks(items: Iterable[Item], weight: Callable[[Item], int], *, lift: int, seats: int) -> Iterator[list[Item]]:
    """The items in their order, so many at a time as weigh `lift` at most, and no more than `seats`.

    An item that is heavier is alone.
    """
    chunk: list[Item] = []
    used = 0
    for item in items:
        weighs = weight(item)
        if chunk and (used + weighs > lift or len(chunk) == seats):
            yield chunk
            chunk, used = [], 0
        chunk.append(item)
        used += weighs
    if chunk:
        yield chunk


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value (of ascending ones) that this share of them does not exceed; 0.0 when there is none."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0
