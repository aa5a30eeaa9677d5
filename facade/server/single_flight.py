"""Single flight: concurrent callers share one call, and later callers share its result for a while."""

import asyncio
import time
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from facade.server.scheduler import Scheduler, set_from_call

Result = TypeVar("Result")


class _Call(NamedTuple, Generic[Result]):
    """A call: the time at which it began, and its future result."""

    began: float
    result: "asyncio.Future[Result]"


class SingleFlight(Generic[Result]):
    """Remembers the last call, so that other callers can share it.

    The error of a failed call is shared only by those that already wait for it.

    Args:
        scheduler: runs the callers, which are greenlets.
        call: makes the result.
        clock: measures ages, in seconds or in turns of the loop.
    """

    def __init__(
        self, scheduler: Scheduler, call: Callable[[], Result], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._scheduler = scheduler
        self._make = call
        self._clock = clock
        self._last: _Call[Result] | None = None

    def get(self, *, max_age: float) -> Result:
        """The result of a call that began at most `max_age` ago; waits for it if it has not ended yet.

        Raises: what the call raises.
        """
        last, now = self._last, self._clock()
        if last and now - last.began <= max_age and not self._failed(last):
            return self._scheduler.wait(last.result)
        result: asyncio.Future[Result] = self._scheduler.create_future()
        self._last = _Call(now, result)
        set_from_call(result, self._make)
        return result.result()

    @staticmethod
    def _failed(call: "_Call[Result]") -> bool:
        return call.result.done() and call.result.exception() is not None
