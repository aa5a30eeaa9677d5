"""Removes messages that are older than the configured days."""

import structlog

from common import ids
from nodes.background import repeat
from nodes.store import Store

log = structlog.get_logger()

EXPIRE_S = 60.0  # between two removals
DAY_MS = 86_400_000


def oldest_id(days: float) -> str:
    """Messages up to this id are older than so many days."""
    return ids.last_id(max(0, ids.now_ms() - int(days * DAY_MS)))


async def run(store: Store, days: float) -> None:
    """Remove from time to time, for ever; nothing with 0 days."""

    async def expire() -> None:
        if removed := await store.expire(oldest_id(days)):
            log.info("expired", messages=removed)

    if days:
        await repeat(expire, every_s=EXPIRE_S, what="removing old messages")
