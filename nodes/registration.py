"""Keeps a node in the registries: renews its leases, and takes it out before it stops."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import structlog

from common.codec import Request
from common.errors import PeerError
from common.leases import RENEWAL_S
from common.pipeline import PipelinedTransport
from common.wire import Leave, Register

log = structlog.get_logger()

ANSWER_S = 0.5  # for one registry to answer


@contextlib.asynccontextmanager
async def registered(
    transport: PipelinedTransport, registries: Sequence[str], *, name: str, address: str
) -> AsyncIterator[None]:
    """While the block runs, `address` (host:port) serves `name`; logging nodes renew in nodes.replication instead."""
    renewing = asyncio.create_task(_renew(transport, registries, name, address))
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        await _tell_all(transport, registries, Leave(name=name, address=address))


async def _renew(transport: PipelinedTransport, registries: Sequence[str], name: str, address: str) -> None:
    while True:
        await _tell_all(transport, registries, Register(name=name, address=address))
        await asyncio.sleep(RENEWAL_S)


async def _tell_all(transport: PipelinedTransport, registries: Sequence[str], request: Request) -> None:
    await asyncio.gather(*(_tell(transport, registry, request) for registry in registries))


async def _tell(transport: PipelinedTransport, registry: str, request: Request) -> None:
    try:
        await transport.call(registry, request, timeout_s=ANSWER_S)
    except PeerError as error:
        log.debug("registry does not answer", registry=registry, reason=error.reason)
