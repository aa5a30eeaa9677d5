"""Tests of facade.client.batcher."""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from facade.client.batcher import MAX_WAIT_S, Batcher
from facade.server.scheduler import Event, Scheduler


class Doubling:
    """Doubles numbers; a batch is answered when it is let go.

    Attributes:
        sent: the batches so far.
    """

    def __init__(self, *, in_flight: int = 1, max_items: int = 100, max_bytes: int = 1_000_000) -> None:
        self.scheduler = Scheduler()
        self.sent: list[list[int]] = []
        self.let_go: Event = self.scheduler.event()
        self.batcher = Batcher(
            self.scheduler,
            self._send,
            size=abs,
            max_bytes=max_bytes,
            in_flight=in_flight,
            max_items=max_items,
        )

    def ask(self, *items: int) -> "list[asyncio.Future[int]]":
        """The answers to these items, which come in one turn."""
        asked = [self.scheduler.started(partial(self.batcher.submit, item, timeout_s=10.0)) for item in items]
        self.turn()
        return asked

    def turn(self) -> None:
        """Let everything happen that can."""
        for _ in range(5):
            self.scheduler.turn(0.0)

    def _send(self, items: Sequence[int]) -> Callable[[int], int]:
        self.sent.append(list(items))
        self.let_go.wait()
        if 13 in items:
            raise ZeroDivisionError
        return self._answer

    def _answer(self, item: int) -> int:
        if item < 0:
            raise ValueError(item)
        return 2 * item


def test_a_batch_waits_until_the_loop_is_idle() -> None:
    """What comes in other turns meanwhile travels with it; but not for longer than MAX_WAIT_S."""
    doubling = Doubling()
    until_s = time.monotonic() + 2 * MAX_WAIT_S

    def work() -> None:
        if time.monotonic() < until_s:
            doubling.scheduler.call_soon(work)

    doubling.scheduler.call_soon(work)
    asked = doubling.ask(1) + doubling.ask(2)
    assert [] == doubling.sent
    while time.monotonic() < until_s:
        doubling.scheduler.turn(0.0)
        assert not doubling.sent or time.monotonic() > until_s - 1.1 * MAX_WAIT_S
    assert [[1, 2]] == doubling.sent
    doubling.let_go.set()
    doubling.turn()
    assert [2, 4] == [one.result() for one in asked]


def test_what_comes_in_one_turn_leaves_together() -> None:
    """Each gets its own answer, or its own error."""
    doubling = Doubling()
    asked = doubling.ask(2, 3, -4)
    assert [[2, 3, -4]] == doubling.sent
    doubling.let_go.set()
    doubling.turn()

    assert [4, 6] == [one.result() for one in asked[:2]]
    with pytest.raises(ValueError, match="-4"):
        asked[2].result()


def test_what_comes_while_all_batches_are_on_their_way_leaves_with_the_next() -> None:
    """They fill meanwhile, up to a number of items, and nobody is forgotten."""
    doubling = Doubling(in_flight=2, max_items=3)
    asked = doubling.ask(1, 2, 3, 4) + doubling.ask(*range(5, 12))
    assert [[1, 2, 3], [4]] == doubling.sent
    doubling.let_go.set()
    doubling.turn()

    assert [2 * item for item in range(1, 12)] == [one.result() for one in asked]
    assert [[1, 2, 3], [4], [5, 6, 7], [8, 9, 10], [11]] == doubling.sent


def test_a_batch_weighs_so_much_and_no_more() -> None:
    """What is too heavy together leaves one after the other; what is too heavy alone leaves alone."""
    doubling = Doubling(max_bytes=100)
    doubling.let_go.set()
    doubling.ask(60, 30, 20, 500, 90)

    assert [[60, 30], [20], [500], [90]] == doubling.sent


def test_what_a_batch_raises_is_raised_to_all_of_it_and_ends_nothing() -> None:
    """The next one leaves."""
    doubling = Doubling()
    asked = doubling.ask(13, 14)
    doubling.let_go.set()
    doubling.turn()
    later = doubling.ask(3)

    assert [ZeroDivisionError] * 2 == [type(one.exception()) for one in asked]
    assert [6] == [one.result() for one in later]


def test_what_no_batch_took_in_time_is_not_sent() -> None:
    """Nobody waits for ever; the others go on without it."""
    doubling = Doubling()
    doubling.ask(1)
    with pytest.raises(TimeoutError):
        doubling.batcher.submit(2, timeout_s=0.01)
    doubling.let_go.set()
    doubling.turn()

    assert [6] == [one.result() for one in doubling.ask(3)]
    assert [[1], [3]] == doubling.sent


def test_what_is_on_its_way_is_waited_for() -> None:
    """A batch has a deadline of its own: an answer is not given up while it is not known what became of it."""
    doubling = Doubling()
    asked = doubling.scheduler.started(partial(doubling.batcher.submit, 1, timeout_s=0.02))
    doubling.turn()
    assert [[1]] == doubling.sent
    doubling.scheduler.turn(0.05)
    doubling.turn()
    assert not asked.done()
    doubling.let_go.set()
    doubling.turn()

    assert 2 == asked.result()
