"""Removes messages that are older than the configured days."""

import logging
import time

from common import ids
from nodes.background import repeat
from nodes.store import Store

log = logging.getLogger(__name__)

EXPIRE_S = 60.0  # between two removals
DAY_MS = 86_400_000


async def run(store: Store, days: float) -> None:
    """Remove from time to time, for ever; nothing with 0 days."""

    async def expire() -> None:
        if removed := await store.expire(ids.last_id(time.time_ns() // 1_000_000 - int(days * DAY_MS))):
            log.info("expired messages=%s", removed)

    if days:
        await repeat(expire, every_s=EXPIRE_S, what="removing old messages")
