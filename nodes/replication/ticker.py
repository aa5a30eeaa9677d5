"""Lets time pass for the replication core, and notices that the process stood still."""

import asyncio
from collections.abc import Callable

import structlog

from nodes.replication.core.machine import Core

log = structlog.get_logger()

TICK_S = 0.05  # while anything is unanswered
IDLE_S = 0.25  # while nothing is: an idle node does next to nothing


class Ticker:
    """Calls the core from time to time.

    Args:
        core: of the replica.
        standstill_s: a tick that is later than this means that the process stood still.
        wake: called after each tick.
        broke: called with what a tick raised.
    """

    def __init__(
        self, core: Core, standstill_s: float, wake: Callable[[], None], broke: Callable[[Exception], None]
    ) -> None:
        self._core = core
        self._standstill_s = standstill_s
        self._wake = wake
        self._broke = broke
        self._loop = asyncio.get_running_loop()
        self._next: asyncio.TimerHandle | None = None
        self._idle = False

    def start(self) -> None:
        """Plan the next tick: soon while the core waits for anything, later while it does not."""
        self.stop()
        self._idle = not self._core.busy
        pause_s = IDLE_S if self._idle else TICK_S
        self._next = self._loop.call_later(pause_s, self._tick, self._loop.time() + pause_s)

    def stop(self) -> None:
        """Tick no more."""
        if self._next:
            self._next.cancel()

    def look(self) -> None:
        """Tick sooner if the core has begun to wait for something."""
        if self._idle and self._core.busy:
            self.start()

    def _tick(self, due_s: float) -> None:
        now_s = self._loop.time()
        stood_s = now_s - due_s
        try:
            if stood_s > self._standstill_s:  # what has come meanwhile is taken before the next tick
                log.warning("this process stood still", seconds=round(stood_s, 3))
                self._core.stood_still(stood_s, now_s)
            else:
                self._core.tick(now_s)
        except Exception as error:
            self._broke(error)
        self._wake()
        self.start()
