"""An answer that is not made again while it is fresh: many who ask at once cost as much as one."""

import asyncio
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from facade.server.scheduler import Scheduler

Answer = TypeVar("Answer")

FRESH_S = 0.25  # an answer that is not older is given again


class Fresh(Generic[Answer]):
    """One request makes the answer, the others wait for it.

    Args:
        scheduler: of the requests.
        make: the answer, as it is now.
        clock: seconds from any start.
    """

    def __init__(
        self, scheduler: Scheduler, make: Callable[[], Answer], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._scheduler = scheduler
        self._make = make
        self._clock = clock
        self._making: asyncio.Future[None] | None = None
        self._made: tuple[Answer, float] | None = None

    def get(self, *, fresh_s: float = FRESH_S) -> Answer:
        """The answer, not older than so many seconds."""
        while self._making:
            self._scheduler.wait(self._making)
        if self._made is None or self._clock() - self._made[1] > fresh_s:
            self._making = making = self._scheduler.create_future()
            try:
                self._made = self._make(), self._clock()
            finally:
                self._making = None
                making.set_result(None)
        return self._made[0]
