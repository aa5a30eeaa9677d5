"""Ticks the replication core, and detects when the process stood still."""

import asyncio
from collections.abc import Callable

import structlog

from nodes.replication.core.machine import Core

log = structlog.get_logger()

TICK_S = 0.05  # between two ticks while the core waits for an answer
IDLE_S = 0.25  # between two ticks while it does not, so that an idle node uses little CPU


class Ticker:
    """Calls `Core.tick` periodically, or `Core.stood_still` if a tick is late.

    Args:
        core: the core of the replica.
        standstill_s: a tick that is later than this means that the process stood still.
        wake: called after each tick.
        broke: called with the exception that a tick raised.
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
        """Schedule the next tick: after TICK_S while the core waits for an answer, else after IDLE_S."""
        self.stop()
        self._idle = not self._core.busy
        pause_s = IDLE_S if self._idle else TICK_S
        self._next = self._loop.call_later(pause_s, self._tick, self._loop.time() + pause_s)

    def stop(self) -> None:
        """Cancel the next tick."""
        if self._next:
            self._next.cancel()

    def hasten(self) -> None:
        """Bring the next tick forward if the core has begun to wait for an answer."""
        if self._idle and self._core.busy:
            self.start()

    def _tick(self, due_s: float) -> None:
        now_s = self._loop.time()
        stood_s = now_s - due_s
        try:
            if stood_s > self._standstill_s:  # messages that arrived meanwhile are handled before the next tick
                log.warning("this process stood still", seconds=round(stood_s, 3))
                self._core.stood_still(stood_s, now_s)
            else:
                self._core.tick(now_s)
        except Exception as error:
            self._broke(error)
        self._wake()
        self.start()
