"""Group commit: items that wait at the same time are sent as one batch.

A batch costs three nodes about 3 ms of work, and each message in it another 0.05 ms. So a batch is sent when the loop
has nothing else to do, after it has read all requests that arrived and sent all answers that let clients post again.
A single client does not wait, and the messages of 32 busy clients share a batch.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from common.batches import batched
from facade.server.scheduler import Scheduler

BATCHES_IN_FLIGHT = 2  # limit on batches in flight; the next batch fills meanwhile
MAX_ITEMS = 200  # in one batch: some milliseconds of work for a node
MAX_WAIT_S = 0.01  # for the loop to become idle

Item = TypeVar("Item")
Result = TypeVar("Result")


class InFlightTimeoutError(TimeoutError):
    """Raised when an item was sent, and its batch had no result within the deadline of the item."""


@dataclass(slots=True, eq=False)
class _Pending(Generic[Item, Result]):
    """A waiting item, and the future of the function that makes its result."""

    item: Item
    result: "asyncio.Future[Callable[[Item], Result]]"


class Batcher(Generic[Item, Result]):
    """Sends waiting items in batches, each from a greenlet of its own.

    Args:
        scheduler: runs the greenlets.
        send: sends a batch, and returns a function that makes the result of each item, or raises its error.
        size: bytes of an item.
        max_bytes: limit on the bytes of a batch; a larger item is sent alone.
        max_items: limit on the items of a batch.
        in_flight: limit on the batches in flight.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        send: Callable[[Sequence[Item]], Callable[[Item], Result]],
        *,
        size: Callable[[Item], int],
        max_bytes: int,
        max_items: int = MAX_ITEMS,
        in_flight: int = BATCHES_IN_FLIGHT,
    ) -> None:
        self._scheduler = scheduler
        self._send = send
        self._size = size
        self._max_bytes = max_bytes
        self._max_items = max_items
        self._free = in_flight
        self._pending: list[_Pending[Item, Result]] = []
        self._scheduled = False

    def submit(self, item: Item, *, timeout_s: float) -> Result:
        """Wait until the item was sent in a batch, and return its result.

        Raises:
            InFlightTimeoutError: the batch with the item had no result within `timeout_s`.
            TimeoutError: no batch took the item within `timeout_s`; it was not sent.
            Exception: whatever `send`, or the function that it returned, raises.
        """
        own: _Pending[Item, Result] = _Pending(item, self._scheduler.create_future())
        self._pending.append(own)
        self._send_when_idle()
        try:
            make_result = self._scheduler.wait(own.result, timeout_s)
        except TimeoutError as error:
            if own in self._pending:
                self._pending.remove(own)
                raise
            if own.result.done():  # `send` raised it
                raise
            raise InFlightTimeoutError(f"no result in {timeout_s:.3g} s") from error
        return make_result(item)

    def _send_when_idle(self) -> None:
        if self._pending and not self._scheduled:
            self._scheduled = True
            self._scheduler.when_idle(self._send_pending, MAX_WAIT_S)

    def _send_pending(self) -> None:
        """Send the waiting items in batches, up to the limit of batches in flight."""
        self._scheduled = False
        while self._free and self._pending:
            batch = next(
                batched(
                    self._pending,
                    lambda one: self._size(one.item),
                    max_bytes=self._max_bytes,
                    max_items=self._max_items,
                )
            )
            self._pending = self._pending[len(batch) :]
            self._free -= 1
            self._scheduler.begin(self._send_batch, batch)

    def _send_batch(self, batch: "list[_Pending[Item, Result]]") -> None:
        try:
            make_result = self._send([one.item for one in batch])
        except Exception as error:
            for one in batch:
                one.result.set_exception(error)
                one.result.exception()  # mark it as retrieved: an item whose deadline has passed no longer waits for it
        else:
            for one in batch:
                one.result.set_result(make_result)
        finally:
            self._free += 1
            self._send_when_idle()
