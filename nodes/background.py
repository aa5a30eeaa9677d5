"""Work that a node does again and again beside its requests."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from common.errors import StoreError

log = logging.getLogger(__name__)


async def repeat(work: Callable[[], Awaitable[object]], *, every_s: float, what: str) -> None:
    """Do it, wait, and do it again, for ever; what fails is told and tried again."""
    while True:
        try:
            await work()
        except StoreError as error:
            log.warning("%s failed reason=%s", what, error)
        except Exception:
            log.exception("%s broke", what)  # a defect of ours; without this the node would go on without it
        await asyncio.sleep(every_s)
