"""Removes messages that are older than the configured days."""

import asyncio
import logging
import time

from common import ids
from common.errors import StoreError
from nodes.store import Store

log = logging.getLogger(__name__)

EXPIRE_S = 60.0  # between two removals
DAY_MS = 86_400_000


async def run(store: Store, days: float) -> None:
    """Remove from time to time, for ever; nothing with 0 days."""
    while days:
        try:
            removed = await store.expire(ids.last_id(time.time_ns() // 1_000_000 - int(days * DAY_MS)))
        except StoreError as error:
            log.warning("old messages not removed reason=%s", error)
        else:
            if removed:
                log.info("expired messages=%s", removed)
        await asyncio.sleep(EXPIRE_S)
