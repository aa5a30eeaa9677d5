"""Coroutines that wait for a condition on the replication core."""

import asyncio
from collections.abc import Callable


class Waiters:
    """The waiting coroutines; their conditions are checked after each turn of the core."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when a condition is true; the caller sets the timeout."""
        if not condition():
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((condition, waiting))
            await waiting

    def check(self) -> None:
        """Check all conditions, and wake the coroutines whose condition is true."""
        waiting, self._waiting = self._waiting, []
        for condition, future in waiting:
            if future.done():  # the waiting coroutine was cancelled
                continue
            if condition():
                future.set_result(None)
            else:
                self._waiting.append((condition, future))
