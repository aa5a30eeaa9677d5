"""Removes messages that are older than the configured days."""

import asyncio
from collections.abc import Callable

import structlog

from common import ids
from common.errors import StoreError
from nodes.storage.protocol import Journal

log = structlog.get_logger()

EXPIRE_S = 60.0  # pause between two removals
DAY_MS = 86_400_000


async def run(journal: Journal, days: float, *, now_ms: Callable[[], int] = ids.now_ms) -> None:
    """Remove old messages periodically, until cancelled; with 0 days return at once. Each node uses its own clock."""
    while days:
        try:
            if removed := await journal.expire(oldest_id(days, now_ms())):
                log.info("expired", messages=removed)
        except StoreError as error:
            log.warning("old messages could not be removed", reason=str(error))
        await asyncio.sleep(EXPIRE_S)


def oldest_id(days: float, now_ms: int) -> str:
    """The highest id of messages that are older than this many days at the time `now_ms` (since 1970)."""
    return ids.last_id(max(0, now_ms - int(days * DAY_MS)))
