"""Tests of nodes.background."""

import asyncio
import logging

import pytest

from common.errors import StoreError
from nodes.background import repeat


def test_work_is_repeated_whatever_becomes_of_it(caplog: pytest.LogCaptureFixture) -> None:
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

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert ["the work failed reason=no space", "the work broke"] == caplog.messages
