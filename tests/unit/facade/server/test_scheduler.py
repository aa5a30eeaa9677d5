"""Tests of facade.server.scheduler."""

import contextlib
import gc
import os
import weakref
from collections.abc import Callable
from functools import partial

import pytest
from greenlet import getcurrent
from structlog.typing import EventDict

from common.telemetry import request_context
from facade.server.scheduler import CALLBACKS, TIMERS, Scheduler, Timer
from tests.support.facade import ManualScheduler
from tests.support.waiting import eventually


def turn_until(scheduler: Scheduler, probe: Callable[[], object]) -> None:
    """Turn the loop until `probe` returns something true."""
    eventually(probe, timeout_s=5.0, pause=partial(scheduler.turn, 0.01))


def test_other_greenlets_run_while_one_waits() -> None:
    """A greenlet goes on when its event is set."""
    scheduler = Scheduler()
    steps: list[str] = []
    event = scheduler.event()

    def wait() -> None:
        steps.append("waits")
        assert event.wait(5.0)
        steps.append("resumes")

    def set_event() -> None:
        steps.append("sets")
        event.set()

    scheduler.spawn(wait)
    scheduler.spawn(set_event)
    turn_until(scheduler, lambda: len(steps) == 3)

    assert ["waits", "sets", "resumes"] == steps


def test_a_wait_ends_after_its_timeout() -> None:
    """The wait for an event returns False; the wait for a future raises TimeoutError."""
    scheduler = Scheduler()

    assert not scheduler.event().wait(0.01)
    with pytest.raises(TimeoutError):
        scheduler.wait(scheduler.create_future(), 0.01)


def test_a_future_that_is_done_at_the_timeout_wakes_its_greenlet_once() -> None:
    """A second wake-up would end the next wait of the same greenlet too early."""
    scheduler = ManualScheduler()
    slept_s: list[float] = []

    def work() -> None:
        with contextlib.suppress(TimeoutError):
            scheduler.wait(future, 0.01)
        began_s = scheduler.now_s
        scheduler.sleep(0.05)
        slept_s.append(scheduler.now_s - began_s)

    future = scheduler.create_future()
    scheduler.call_later(0.01, future.set_result, None)
    scheduler.spawn(work)
    scheduler.turn(0.0)
    for now_s in (0.02, 0.04, 0.06, 0.08):
        scheduler.now_s = now_s
        for _ in range(3):
            scheduler.turn(0.0)

    assert [0.06] == [round(seconds, 3) for seconds in slept_s]


def test_calls_run_concurrently() -> None:
    """All calls begin before the first one ends, and their results are in order."""
    scheduler = Scheduler()
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        scheduler.sleep(0.01)
        assert 4 == len(begun)
        return number

    assert [0, 1, 2, 3] == scheduler.all(partial(work, number) for number in range(4))


def test_a_callback_of_the_loop_may_not_wait(logged: list[EventDict]) -> None:
    """It would stop the loop, which logs the error and goes on."""
    scheduler = Scheduler()
    scheduler.call_soon(scheduler.sleep, 1.0)
    scheduler.spawn(scheduler.sleep, 0.0)
    scheduler.turn(0.0)

    assert ["unexpected exception in the loop"] == [line["event"] for line in logged]


def test_an_exception_ends_only_its_own_greenlet_or_callback(logged: list[EventDict]) -> None:
    """It is logged, and the others and the loop go on."""
    scheduler = Scheduler()
    done: list[int] = []
    scheduler.spawn(lambda: 1 / 0)
    scheduler.when_idle(lambda: 1 / 0, 1.0)
    scheduler.call_later(0.0, lambda: 1 / 0)
    scheduler.spawn(done.append, 1)
    turn_until(scheduler, lambda: done and len(logged) == 3)


def test_a_greenlet_keeps_nothing_of_its_last_call() -> None:
    """When it is used again, it has neither the arguments nor the request context of that call."""
    scheduler = Scheduler()
    found: list[tuple[object, object]] = []

    class Page:
        """An argument that may be large."""

    page = Page()
    reference = weakref.ref(page)

    def work(_page: object) -> None:
        found.append((getcurrent(), request_context.current()))
        request_context.set_current(request_context.from_headers("mine", None))

    scheduler.spawn(work, page)
    del page
    turn_until(scheduler, lambda: len(found) == 1)
    assert reference() is None
    scheduler.spawn(work, None)
    turn_until(scheduler, lambda: len(found) == 2)

    assert found[0] == found[1]
    assert found[1][1] is None


def test_the_callbacks_of_one_turn_are_limited() -> None:
    """Then the loop polls again, so that new requests do not wait for all responses to a large batch."""
    scheduler = Scheduler()
    called: list[int] = []
    for number in range(2 * CALLBACKS):
        scheduler.call_soon(called.append, number)
    scheduler.turn(0.0)
    assert list(range(CALLBACKS)) == called
    scheduler.turn(0.0)
    assert list(range(2 * CALLBACKS)) == called


def test_a_busy_loop_calls_idle_callbacks_after_the_shortest_limit() -> None:
    """The order in which they were added does not matter."""
    scheduler = Scheduler()
    called: list[str] = []

    def stay_busy() -> None:
        scheduler.call_soon(stay_busy)

    scheduler.call_soon(stay_busy)
    scheduler.when_idle(lambda: called.append("long"), 60.0)
    scheduler.when_idle(lambda: called.append("short"), 0.01)
    scheduler.turn(0.0)
    assert [] == called
    turn_until(scheduler, lambda: called == ["long", "short"])


def test_a_cancelled_timer_does_nothing() -> None:
    """The other timers are called in the order of their times."""
    scheduler = Scheduler()
    called: list[int] = []
    scheduler.call_later(0.02, called.append, 2)
    scheduler.call_later(0.01, called.append, 1)
    scheduler.call_later(0.0, called.append, 0).cancel()
    turn_until(scheduler, lambda: len(called) == 2)

    assert [1, 2] == called


def test_a_readable_descriptor_calls_back() -> None:
    """In each turn while it is readable, until it is removed."""
    scheduler = Scheduler()
    called: list[int] = []
    reading, writing = os.pipe()
    try:
        scheduler.add_reader(reading, lambda: called.append(1))
        scheduler.turn(0.0)
        assert [] == called
        os.write(writing, b"x")
        scheduler.turn(1.0)
        assert [1] == called
        scheduler.remove_reader(reading)
        scheduler.turn(0.0)
        assert [1] == called
    finally:
        os.close(reading)
        os.close(writing)


def test_each_greenlet_has_its_own_request_context() -> None:
    """The context that one sets is not that of another one, nor of the caller."""
    scheduler, before = Scheduler(), request_context.current()
    found: list[str] = []

    def work(name: str) -> None:
        request_context.set_current(request_context.from_headers(name, None))
        scheduler.sleep(0.01)
        found.append((request_context.current() or request_context.from_headers("none", None)).request_id)

    scheduler.all([partial(work, "a"), partial(work, "b")])

    assert ["a", "b"] == found
    assert before == request_context.current()


def test_cancelled_timers_are_not_kept() -> None:
    """A request makes several timers of seconds, and cancels them after milliseconds."""
    scheduler = Scheduler()
    called: list[int] = []
    scheduler.call_later(0.01, called.append, 1)
    for _ in range(10 * TIMERS):
        scheduler.call_later(10.0, called.append, 2).cancel()
    assert sum(isinstance(kept, Timer) for kept in gc.get_objects()) <= 3 * TIMERS
    turn_until(scheduler, lambda: called)

    assert [1] == called
