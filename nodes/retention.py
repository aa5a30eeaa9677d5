"""Removes messages that are older than the configured days."""

import asyncio

import structlog

from common import ids
from common.errors import StoreError
from nodes.storage.protocol import Journal

log = structlog.get_logger()

EXPIRE_S = 60.0  # between two removals
DAY_MS = 86_400_000


async def run(journal: Journal, days: float) -> None:
    """Remove from time to time, for ever; nothing with 0 days. Each replica does so by its own clock."""
    while days:
        try:
            if removed := await journal.expire(oldest_id(days)):
                log.info("expired", messages=removed)
        except StoreError as error:
            log.warning("old messages could not be removed", reason=str(error))
        await asyncio.sleep(EXPIRE_S)


def oldest_id(days: float) -> str:
    """Messages up to this id are older than so many days."""
    return ids.last_id(max(0, ids.now_ms() - int(days * DAY_MS)))
