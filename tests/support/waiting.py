"""Waits for a condition, with a deadline."""

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
    """What `probe` returns when it is neither None nor False; a failure when it stays so.

    `pause` is called between two probes, for example to turn a loop; by default it waits for 20 ms.
    """
    ends = time.monotonic() + timeout_s
    pause = pause or partial(threading.Event().wait, 0.02)
    while time.monotonic() < ends:
        if found := probe():
            return found
        pause()
    raise AssertionError(f"not so within {timeout_s} s")


async def becomes(expected: T, probe: Callable[[], Awaitable[T]], *, timeout_s: float = 10.0) -> None:
    """Return when `probe` gives what is expected; a failure when it does not."""
    ends, pause = time.monotonic() + timeout_s, asyncio.Event()
    while (found := await probe()) != expected:
        assert time.monotonic() < ends, f"still {found!r} after {timeout_s} s"
        with suppress(TimeoutError):
            await asyncio.wait_for(pause.wait(), 0.01)
