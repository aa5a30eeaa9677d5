"""Work that a node does again and again beside its requests."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from common.errors import StoreError

log = structlog.get_logger()


async def repeat(work: Callable[[], Awaitable[object]], *, every_s: float, what: str) -> None:
    """Do it, wait, and do it again, for ever; what fails is told and tried again."""
    while True:
        try:
            await work()
        except StoreError as error:
            log.warning("failed", what=what, reason=error)
        except Exception:
            log.exception("broke", what=what)  # a defect of ours; without this the node would go on without it
        await asyncio.sleep(every_s)
