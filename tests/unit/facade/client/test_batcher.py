"""Tests of facade.client.batcher."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from facade.client.batcher import MAX_WAIT_S, Batcher, InFlightTimeoutError
from facade.server.scheduler import Event, Scheduler
from tests.support.facade import ManualScheduler


class DoublingBatcher:
    """A batcher that doubles numbers.

    A negative number fails alone, and the number 13 fails its whole batch.

    Attributes:
        sent: the batches so far.
        answered: set by a test to answer the batches.
    """

    def __init__(
        self,
        *,
        in_flight: int = 1,
        max_items: int = 100,
        max_bytes: int = 1_000_000,
        scheduler: Scheduler | None = None,
    ) -> None:
        self.scheduler = scheduler or Scheduler()
        self.sent: list[list[int]] = []
        self.answered: Event = self.scheduler.event()
        self.batcher = Batcher(
            self.scheduler,
            self._send,
            size=abs,
            max_bytes=max_bytes,
            in_flight=in_flight,
            max_items=max_items,
        )

    def submit(self, *items: int) -> "list[asyncio.Future[int]]":
        """The results of these items, which are submitted in one turn of the loop."""
        results = [self.scheduler.started(partial(self.batcher.submit, item, timeout_s=10.0)) for item in items]
        self.turn()
        return results

    def turn(self) -> None:
        """Turn the loop until nothing more happens."""
        for _ in range(5):
            self.scheduler.turn(0.0)

    def _send(self, items: Sequence[int]) -> Callable[[int], int]:
        self.sent.append(list(items))
        self.answered.wait()
        if 13 in items:
            raise ZeroDivisionError
        return self._answer

    def _answer(self, item: int) -> int:
        if item < 0:
            raise ValueError(item)
        return 2 * item


def test_a_batch_waits_until_the_loop_is_idle() -> None:
    """Items of later turns travel with it; in a loop that is always busy it waits for MAX_WAIT_S."""
    scheduler = ManualScheduler()
    doubling = DoublingBatcher(scheduler=scheduler)

    def stay_busy() -> None:
        scheduler.call_soon(stay_busy)

    scheduler.call_soon(stay_busy)
    results = doubling.submit(1) + doubling.submit(2)
    assert [] == doubling.sent
    scheduler.now_s = 0.9 * MAX_WAIT_S
    doubling.turn()
    assert [] == doubling.sent
    scheduler.now_s = 1.1 * MAX_WAIT_S
    doubling.turn()
    assert [[1, 2]] == doubling.sent
    doubling.answered.set()
    doubling.turn()
    assert [2, 4] == [one.result() for one in results]


def test_items_of_one_turn_are_one_batch() -> None:
    """Each caller gets its own result, or its own error."""
    doubling = DoublingBatcher()
    results = doubling.submit(2, 3, -4)
    assert [[2, 3, -4]] == doubling.sent
    doubling.answered.set()
    doubling.turn()

    assert [4, 6] == [one.result() for one in results[:2]]
    with pytest.raises(ValueError, match="-4"):
        results[2].result()


def test_items_wait_for_the_next_batch_while_all_batches_are_in_flight() -> None:
    """A waiting batch fills up to a number of items, and no item is left out."""
    doubling = DoublingBatcher(in_flight=2, max_items=3)
    results = doubling.submit(1, 2, 3, 4) + doubling.submit(*range(5, 12))
    assert [[1, 2, 3], [4]] == doubling.sent
    doubling.answered.set()
    doubling.turn()

    assert [2 * item for item in range(1, 12)] == [one.result() for one in results]
    assert [[1, 2, 3], [4], [5, 6, 7], [8, 9, 10], [11]] == doubling.sent


def test_the_size_of_a_batch_is_limited() -> None:
    """Items that are too large together are sent one after the other; an item over the limit is sent alone."""
    doubling = DoublingBatcher(max_bytes=100)
    doubling.answered.set()
    doubling.submit(60, 30, 20, 500, 90)

    assert [[60, 30], [20], [500], [90]] == doubling.sent


def test_an_error_of_a_batch_is_raised_to_all_its_callers() -> None:
    """The next batch is sent as usual."""
    doubling = DoublingBatcher()
    results = doubling.submit(13, 14)
    doubling.answered.set()
    doubling.turn()
    later = doubling.submit(3)

    assert [ZeroDivisionError] * 2 == [type(one.exception()) for one in results]
    assert [6] == [one.result() for one in later]


def test_an_item_that_waits_too_long_is_not_sent() -> None:
    """Its caller gets TimeoutError; other items are sent without it."""
    doubling = DoublingBatcher()
    doubling.submit(1)
    with pytest.raises(TimeoutError):
        doubling.batcher.submit(2, timeout_s=0.01)
    doubling.answered.set()
    doubling.turn()

    assert [6] == [one.result() for one in doubling.submit(3)]
    assert [[1], [3]] == doubling.sent


def test_an_item_in_flight_has_its_own_deadline() -> None:
    """It was sent, so its error is another one than that of an item which no batch took."""
    doubling = DoublingBatcher()
    result = doubling.scheduler.started(partial(doubling.batcher.submit, 1, timeout_s=0.02))
    doubling.turn()
    assert [[1]] == doubling.sent
    doubling.scheduler.turn(0.05)
    doubling.turn()

    assert isinstance(result.exception(), InFlightTimeoutError)
    doubling.answered.set()
    doubling.turn()
