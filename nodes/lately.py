"""A figure that takes long to get, as it was lately."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from common.errors import StoreError

OLD_S = 10.0  # then it is asked for again ...
WAIT_S = 0.05  # ... and waited for so long; then the last one has to do

T = TypeVar("T")


class Lately(Generic[T]):
    """Asks when it is asked, at most once in OLD_S.

    Args:
        ask: for the figure; it may raise StoreError.
        first: what is told until it has answered.
    """

    def __init__(
        self, ask: Callable[[], Awaitable[T]], first: T, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask = ask
        self._last = first
        self._clock = clock
        self._asked_s = clock() - OLD_S
        self._asking: asyncio.Task[None] | None = None

    async def value(self) -> T:
        """The figure, or the last one, when this one takes long."""
        if self._asking is None and self._clock() - self._asked_s >= OLD_S:
            self._asking = asyncio.create_task(self._renew())
        if self._asking:
            await asyncio.wait({self._asking}, timeout=WAIT_S)
        return self._last

    async def _renew(self) -> None:
        try:
            with contextlib.suppress(StoreError):
                self._last = await self._ask()
        finally:
            self._asked_s, self._asking = self._clock(), None
