"""Tests of nodes.background."""

import asyncio

from structlog.typing import EventDict

from common.errors import StoreError
from nodes.background import repeat


def test_work_is_repeated_whatever_becomes_of_it(logged: list[EventDict]) -> None:
    """An error of the store is one line, a defect a traceback; the next time comes in any case."""
    outcomes = [StoreError("no space"), ValueError("a defect"), None, None]
    done = asyncio.Event()

    async def work() -> None:
        outcome = outcomes.pop(0) if outcomes else None
        if not outcomes:
            done.set()
        if outcome:
            raise outcome

    async def run() -> None:
        repeating = asyncio.create_task(repeat(work, every_s=0.0, what="the work"))
        await asyncio.wait_for(done.wait(), 10.0)
        repeating.cancel()

    asyncio.run(run())
    assert [("failed", "the work"), ("broke", "the work")] == [(line["event"], line["what"]) for line in logged]
    assert "no space" == str(logged[0]["reason"])
