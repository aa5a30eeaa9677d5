"""Splitting a sequence into batches of limited size."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def batched(
    items: Iterable[Item], size: Callable[[Item], int], *, max_bytes: int, max_items: int
) -> Iterator[list[Item]]:
    """Yield the items in order, in batches of at most `max_items` items and `max_bytes` bytes in total.

    `size` returns the bytes of an item. An item that is larger than `max_bytes` is a batch of its own.
    """
    batch: list[Item] = []
    used_bytes = 0
    for item in items:
        item_bytes = size(item)
        if batch and (used_bytes + item_bytes > max_bytes or len(batch) == max_items):
            yield batch
            batch, used_bytes = [], 0
        batch.append(item)
        used_bytes += item_bytes
    if batch:
        yield batch
