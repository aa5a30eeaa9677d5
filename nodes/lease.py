"""Keeps a node in the registries: registers it, renews its leases, and takes it out before it stops."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import structlog

from common import rpc
from common.errors import PeerError
from common.wire import Leased, Leave, Ping, Register, Status

log = structlog.get_logger()

HEARTBEAT_S = 1.0  # between two renewals; a lease lasts three of them
RETRY_S = 0.2  # the same while a registry is silent: one that restarts is right again within a heartbeat
ANSWER_S = 0.5  # for one registry to answer; the others are asked at the same time


class Lease:
    """The place of one node in all registries.

    Args:
        transport: carries requests.
        registries: host:port of each; they share nothing, so each is told.
        name: the service.
        address: host:port of the node.
        view: the members of the Hazelcast cluster that the node sees now.
        returning: called before the node registers where it could not for a while. It was cut off, maybe not alone, and
            others have gone on: it has to have what they accepted before it is handed out again.
    """

    def __init__(
        self,
        transport: rpc.Transport,
        registries: Sequence[str],
        *,
        name: str,
        address: str,
        view: Callable[[], tuple[str, ...]] = tuple,
        returning: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._transport = transport
        self._registries = registries
        self._name = name
        self._address = address
        self._view = view
        self._returning = returning
        self._silent: set[str] = set()

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Renew while the block runs, then leave: from then on the node is handed out no more."""
        over = asyncio.Event()
        keeping = [asyncio.create_task(self._keep(registry, over)) for registry in self._registries]
        try:
            yield
        finally:
            over.set()
            await asyncio.gather(*keeping)  # a renewal on its way must not arrive after the leave
            await self.leave()

    async def renew(self) -> None:
        """Register with every registry once; one that is silent is told in the log, once."""
        await asyncio.gather(*map(self._renew, self._registries))

    async def leave(self) -> None:
        """Take the node out of every registry that answers."""
        leaving = Leave(name=self._name, address=self._address)
        await asyncio.gather(*(asyncio.to_thread(self._tell, registry, leaving) for registry in self._registries))

    async def _keep(self, registry: str, over: asyncio.Event) -> None:
        while not over.is_set():
            try:
                await self._renew(registry)
            except Exception:
                log.exception("a renewal broke")  # a defect of ours; without leases the node would not be handed out
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), RETRY_S if registry in self._silent else HEARTBEAT_S)

    async def _renew(self, registry: str) -> None:
        if registry in self._silent and self._returning:
            if not await asyncio.to_thread(self._tell, registry, Ping()):
                return
            await self._returning()
        await asyncio.to_thread(
            self._tell, registry, Register(name=self._name, address=self._address, view=self._view())
        )

    def _tell(self, registry: str, request: Register | Leave | Ping) -> bool:
        """Whether it answers."""
        try:
            rpc.ask(
                self._transport, registry, request, Status if isinstance(request, Ping) else Leased, timeout_s=ANSWER_S
            )
        except PeerError as error:
            if registry not in self._silent:
                log.warning("registry silent", reason=error)
            self._silent.add(registry)
            return False
        if not isinstance(request, Ping):
            self._silent.discard(registry)
        return True
