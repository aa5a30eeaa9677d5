"""Waits for a condition, with a deadline; and a clock that does not wait."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

T = TypeVar("T")


def eventually(
    probe: Callable[[], T | None], *, timeout_s: float = 20.0, pause: Callable[[], object] | None = None
) -> T:
    """Call `probe` until it returns something true, and return that.

    Args:
        probe: returns None or something false while the condition does not hold.
        timeout_s: seconds after which AssertionError is raised.
        pause: called between two probes, for example to turn an event loop; by default it waits for 20 ms.
    """
    ends = time.monotonic() + timeout_s
    pause = pause or partial(threading.Event().wait, 0.02)
    while time.monotonic() < ends:
        if found := probe():
            return found
        pause()
    raise AssertionError(f"the condition did not hold within {timeout_s} s")


async def becomes(expected: T, probe: Callable[[], Awaitable[T]], *, timeout_s: float = 10.0) -> None:
    """Return as soon as `probe` returns what is expected; raise AssertionError after `timeout_s`."""
    ends, pause = time.monotonic() + timeout_s, asyncio.Event()
    while (found := await probe()) != expected:
        assert time.monotonic() < ends, f"still {found!r} after {timeout_s} s"
        with suppress(TimeoutError):
            await asyncio.wait_for(pause.wait(), 0.01)


class ManualClock:
    """A clock, in seconds, that a test moves."""

    def __init__(self, now_s: float = 0.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        """The time that the test has set."""
        return self.now_s
