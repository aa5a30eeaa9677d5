"""Tests of facade.server.scheduler."""

import contextlib
import os
import time
import weakref
from collections.abc import Callable
from functools import partial

import pytest
from greenlet import getcurrent
from structlog.typing import EventDict

from common.telemetry import request_context
from facade.server.scheduler import CALLBACKS, TIMERS, Scheduler
from tests.support.waiting import eventually


def turned(scheduler: Scheduler, probe: Callable[[], object]) -> None:
    """Turn the loop until something is so."""
    eventually(probe, timeout_s=5.0, pause=partial(scheduler.turn, 0.01))


def test_others_run_while_one_waits() -> None:
    """Each goes on when what it waits for has come."""
    scheduler = Scheduler()
    told: list[str] = []
    event = scheduler.event()

    def wait() -> None:
        told.append("waits")
        assert event.wait(5.0)
        told.append("goes on")

    def tell() -> None:
        told.append("tells")
        event.set()

    scheduler.spawn(wait)
    scheduler.spawn(tell)
    turned(scheduler, lambda: len(told) == 3)

    assert ["waits", "tells", "goes on"] == told


def test_a_wait_ends_after_its_time() -> None:
    """An event says that it has not come; a future raises."""
    scheduler = Scheduler()

    assert not scheduler.event().wait(0.01)
    with pytest.raises(TimeoutError):
        scheduler.wait(scheduler.create_future(), 0.01)


def test_what_comes_together_with_the_end_of_a_wait_wakes_once() -> None:
    """The second waking would end another wait of the same greenlet."""
    scheduler = Scheduler()
    slept: list[float] = []

    def work() -> None:
        with contextlib.suppress(TimeoutError):
            scheduler.wait(future, 0.01)
        began_s = time.monotonic()
        scheduler.sleep(0.05)
        slept.append(time.monotonic() - began_s)

    future = scheduler.create_future()
    scheduler.call_later(0.01, future.set_result, None)
    scheduler.spawn(work)
    scheduler.turn(0.0)
    time.sleep(0.02)
    turned(scheduler, lambda: slept)

    assert slept[0] >= 0.05


def test_calls_at_the_same_time_take_as_long_as_the_longest() -> None:
    """Also for who waits outside of the loop, which turns meanwhile."""
    scheduler = Scheduler()

    def work(number: int) -> int:
        scheduler.sleep(0.05)
        return number

    began_s = time.monotonic()
    assert [0, 1, 2, 3] == scheduler.all(partial(work, number) for number in range(4))
    assert time.monotonic() - began_s < 0.15


def test_a_callback_of_the_loop_may_not_wait(logged: list[EventDict]) -> None:
    """It would stop everything; the loop says so, and goes on."""
    scheduler = Scheduler()
    scheduler.call_soon(scheduler.sleep, 1.0)
    scheduler.spawn(scheduler.sleep, 0.0)
    scheduler.turn(0.0)

    assert ["unexpected exception in the loop"] == [line["event"] for line in logged]


def test_a_defect_ends_only_what_has_it(logged: list[EventDict]) -> None:
    """The others and the loop go on."""
    scheduler = Scheduler()
    done: list[int] = []
    scheduler.spawn(lambda: 1 / 0)
    scheduler.when_idle(lambda: 1 / 0, 1.0)
    scheduler.call_later(0.0, lambda: 1 / 0)
    scheduler.spawn(done.append, 1)
    turned(scheduler, lambda: done and len(logged) == 3)


def test_a_greenlet_that_is_used_again_has_nothing_of_its_last_call() -> None:
    """Neither its request, by which its lines in the log are named, nor what it was called with."""
    scheduler = Scheduler()
    found: list[tuple[object, object]] = []

    class Page:
        """Something large."""

    page = Page()
    left = weakref.ref(page)

    def work(_page: object) -> None:
        found.append((getcurrent(), request_context.current()))
        request_context.set_current(request_context.from_headers("mine", None))

    scheduler.spawn(work, page)
    del page
    turned(scheduler, lambda: len(found) == 1)
    assert left() is None
    scheduler.spawn(work, None)
    turned(scheduler, lambda: len(found) == 2)

    assert found[0] == found[1]
    assert found[1][1] is None


def test_a_turn_calls_back_so_often_and_polls_again() -> None:
    """A batch that was answered does not keep new requests waiting until all of its posts are."""
    scheduler = Scheduler()
    called: list[int] = []
    for number in range(2 * CALLBACKS):
        scheduler.call_soon(called.append, number)
    scheduler.turn(0.0)
    assert list(range(CALLBACKS)) == called
    scheduler.turn(0.0)
    assert list(range(2 * CALLBACKS)) == called


def test_the_shortest_wait_for_an_idle_loop_counts() -> None:
    """Whoever asked first."""
    scheduler = Scheduler()
    called: list[str] = []

    def busy() -> None:
        scheduler.call_soon(busy)

    scheduler.call_soon(busy)
    scheduler.when_idle(lambda: called.append("long"), 60.0)
    scheduler.when_idle(lambda: called.append("short"), 0.01)
    scheduler.turn(0.0)
    assert [] == called
    turned(scheduler, lambda: called == ["long", "short"])


def test_a_cancelled_timer_does_nothing() -> None:
    """Timers end in the order of their times."""
    scheduler = Scheduler()
    told: list[int] = []
    scheduler.call_later(0.02, told.append, 2)
    scheduler.call_later(0.01, told.append, 1)
    scheduler.call_later(0.0, told.append, 0).cancel()
    turned(scheduler, lambda: len(told) == 2)

    assert [1, 2] == told


def test_a_descriptor_that_is_readable_is_told() -> None:
    """As long as it is, and nobody has removed it."""
    scheduler = Scheduler()
    told: list[int] = []
    reading, writing = os.pipe()
    try:
        scheduler.add_reader(reading, lambda: told.append(1))
        scheduler.turn(0.0)
        assert [] == told
        os.write(writing, b"x")
        scheduler.turn(1.0)
        assert [1] == told
        scheduler.remove_reader(reading)
        scheduler.turn(0.0)
        assert [1] == told
    finally:
        os.close(reading)
        os.close(writing)


def test_each_greenlet_works_on_its_own_request() -> None:
    """The origin that one begins is not that of the others."""
    scheduler, before = Scheduler(), request_context.current()
    found: list[str] = []

    def work(name: str) -> None:
        request_context.set_current(request_context.from_headers(name, None))
        scheduler.sleep(0.01)
        found.append((request_context.current() or request_context.from_headers("none", None)).request_id)

    scheduler.all([partial(work, "a"), partial(work, "b")])

    assert ["a", "b"] == found
    assert before == request_context.current()


def test_timers_that_were_cancelled_are_not_kept() -> None:
    """A request makes several, with times of seconds, and cancels them after milliseconds."""
    scheduler = Scheduler()
    told: list[int] = []
    scheduler.call_later(0.01, told.append, 1)
    for _ in range(10 * TIMERS):
        scheduler.call_later(10.0, told.append, 2).cancel()
    assert len(scheduler._timers) <= 2 * TIMERS
    turned(scheduler, lambda: told)

    assert [1] == told
