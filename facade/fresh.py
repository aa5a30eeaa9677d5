"""An answer that is not made again while it is fresh: many who ask at once cost as much as one."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Answer = TypeVar("Answer")

FRESH_S = 0.25  # an answer that is not older is given again


class Fresh(Generic[Answer]):
    """May be shared by threads: one makes the answer, the others wait for it.

    Args:
        make: the answer, as it is now.
        clock: seconds from any start.
    """

    def __init__(self, make: Callable[[], Answer], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._make = make
        self._clock = clock
        self._lock = threading.Lock()
        self._made: tuple[Answer, float] | None = None

    def get(self, *, fresh_s: float = FRESH_S) -> Answer:
        """The answer, not older than so many seconds."""
        with self._lock:
            if self._made is None or self._clock() - self._made[1] > fresh_s:
                self._made = self._make(), self._clock()
            return self._made[0]
