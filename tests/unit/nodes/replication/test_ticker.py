"""Tests of nodes.replication.ticker, on an event loop whose clock the test moves."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

import pytest
from structlog.typing import EventDict

from nodes.replication.core.machine import Core
from nodes.replication.ticker import IDLE_S, TICK_S, Ticker

STANDSTILL_S = 0.15


class ManualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock, in seconds, stands still until a test moves it."""

    now_s = 100.0

    def time(self) -> float:
        """The time that the test has set."""
        return self.now_s


class RecordingCore:
    """A core that records its ticks and its standstills, and can fail.

    Attributes:
        busy: True if it waits for an answer.
        ticks: the time of each tick, in seconds since the start.
        stood_s: the duration of each standstill.
    """

    def __init__(self) -> None:
        self.busy = True
        self.fails = False
        self.ticks: list[float] = []
        self.stood_s: list[float] = []

    def tick(self, now_s: float) -> None:
        """See Core."""
        self.ticks.append(round(now_s - ManualLoop.now_s, 3))
        if self.fails:
            raise ZeroDivisionError

    def stood_still(self, seconds: float, _now_s: float) -> None:
        """See Core."""
        self.stood_s.append(round(seconds, 3))


class Ticking:
    """A core with its ticker, which has not been started.

    Attributes:
        turns: how often the core was woken.
        errors: the exceptions that ticks raised.
    """

    def __init__(self, loop: ManualLoop) -> None:
        self._loop = loop
        self.core = RecordingCore()
        self.turns = 0
        self.errors: list[Exception] = []
        self.ticker = Ticker(cast(Core, self.core), STANDSTILL_S, self._wake, self.errors.append)

    def _wake(self) -> None:
        self.turns += 1

    async def after(self, seconds: float) -> None:
        """Move the clock, and run what is due."""
        self._loop.now_s += seconds
        for _ in range(2):  # the first turn of the loop makes due timers ready, the second one has run them
            await asyncio.sleep(0)


def on(steps: Callable[[Ticking], Awaitable[None]]) -> None:
    """Run the steps on a loop of their own, and stop the ticker at their end."""
    loop = ManualLoop()

    async def run() -> None:
        made = Ticking(loop)
        await steps(made)
        made.ticker.stop()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(run())


@pytest.mark.parametrize(("busy", "pause_s"), [(True, TICK_S), (False, IDLE_S)])
def test_an_idle_core_is_ticked_less_often(*, busy: bool, pause_s: float) -> None:
    """A core that waits for an answer must see its time-outs soon; an idle one is to use little CPU."""

    async def steps(made: Ticking) -> None:
        made.core.busy = busy
        made.ticker.start()
        for _ in range(2):
            await made.after(pause_s - 0.01)
            await made.after(0.01)
        assert [round(pause_s, 3), round(2 * pause_s, 3)] == made.core.ticks
        assert 2 == made.turns

    on(steps)


def test_the_next_tick_is_brought_forward_when_the_core_becomes_busy() -> None:
    """A request that an idle core sends is watched from then on."""

    async def steps(made: Ticking) -> None:
        made.core.busy = False
        made.ticker.start()
        made.ticker.hasten()
        await made.after(TICK_S)
        assert [] == made.core.ticks
        made.core.busy = True
        made.ticker.hasten()
        await made.after(TICK_S)
        assert [2 * TICK_S] == made.core.ticks

    on(steps)


def test_the_next_tick_of_a_busy_core_is_not_put_off() -> None:
    """The runtime looks after each event, and under load there is one in each millisecond."""

    async def steps(made: Ticking) -> None:
        made.ticker.start()
        for _ in range(2):
            await made.after(TICK_S / 2)
            made.ticker.hasten()
        assert [TICK_S] == made.core.ticks

    on(steps)


def test_a_late_tick_is_a_standstill(logged: list[EventDict]) -> None:
    """The core gets no tick, so that it handles the messages of the meantime first; the next tick is ordinary."""

    async def steps(made: Ticking) -> None:
        made.ticker.start()
        await made.after(TICK_S + STANDSTILL_S + 0.5)
        assert ([], [STANDSTILL_S + 0.5]) == (made.core.ticks, made.core.stood_s)
        await made.after(TICK_S + STANDSTILL_S - 0.01)
        assert (1, 1, 2) == (len(made.core.ticks), len(made.core.stood_s), made.turns)

    on(steps)
    assert [("this process stood still", 0.65)] == [(line["event"], line["seconds"]) for line in logged]


def test_a_defect_of_the_core_is_reported_and_ticks_continue() -> None:
    """The owner decides what to do; until then the timers of the core keep running."""

    async def steps(made: Ticking) -> None:
        made.core.fails = True
        made.ticker.start()
        await made.after(TICK_S)
        await made.after(TICK_S)
        assert [ZeroDivisionError] * 2 == [type(error) for error in made.errors]

    on(steps)


def test_a_stopped_ticker_does_not_tick() -> None:
    """Not even the tick that was scheduled."""

    async def steps(made: Ticking) -> None:
        made.ticker.start()
        made.ticker.stop()
        await made.after(2 * TICK_S)
        assert ([], 0) == (made.core.ticks, made.turns)

    on(steps)
