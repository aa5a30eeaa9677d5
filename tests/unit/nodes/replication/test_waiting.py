"""Tests of nodes.replication.waiting."""

import asyncio
from functools import partial
from operator import contains

from nodes.replication.waiting import Waiters


def test_a_coroutine_waits_until_its_condition_is_true() -> None:
    """Others go on waiting, and one that was cancelled is forgotten."""

    async def steps() -> list[bool]:
        waiters, reached = Waiters(), {0}
        tasks = [asyncio.ensure_future(waiters.until(partial(contains, reached, at))) for at in (0, 1, 2)]
        await asyncio.sleep(0)
        tasks[2].cancel()
        await asyncio.wait(tasks[2:])
        found = [task.done() for task in tasks]
        reached.update((1, 2))
        waiters.check()
        await tasks[1]
        return found

    assert [True, False, True] == asyncio.run(steps())
