"""Requests of a replica to the registries: the first one that answers, in the configured order, decides."""

import asyncio
from collections.abc import Callable, Sequence

import msgspec
import structlog

from common.discovery.leases import LEASE_S
from common.errors import PeerError, UnreachableError
from common.protocol.replication import Identity, InSyncSet, Renew, Renewed, Standing
from common.rpc.transport import AsyncTransport
from nodes.replication.core.effects import RegistryRequest

log = structlog.get_logger()

PUBLISH_PAUSE_S = 0.05  # between two attempts to send a new in-sync set to one registry
PUBLISH_S = LEASE_S  # limit for all attempts; after it the leases that the registry granted have lapsed


class Registries:
    """The client of all registries, for one replica.

    Args:
        transport: sends requests.
        addresses: host:port of each registry, in the configured order.
        renewal: makes a renewal with an in-sync set that this replica is about to adopt.
        answer_s: timeout for the answer of one registry.
    """

    def __init__(
        self,
        transport: AsyncTransport,
        addresses: Sequence[str],
        renewal: Callable[[InSyncSet], Renew],
        answer_s: float,
    ) -> None:
        self._transport = transport
        self._addresses = tuple(addresses)
        self._renewal = renewal
        self._answer_s = answer_s
        self._renewing_s: list[float] = []  # when each renewal in flight was sent
        self._renewed_s = float("-inf")
        self._starts: dict[str, int] = {}  # the start id in the last answer of each registry
        self._failing: set[str] = set()  # registries that did not answer the last request

    @property
    def renewed_s(self) -> float:
        """When the last renewal that a registry may have received was sent, in event loop time."""
        return max([self._renewed_s, *self._renewing_s])

    async def ask(self, request: RegistryRequest) -> tuple[Renewed | None, list[Renewed]]:
        """Send a renewal to all registries, or any other request to one after the other until one decides.

        Returns:
            The deciding answer, None if no registry answered, and the answers of the other registries.
        """
        if isinstance(request, Renew):
            return await self._renew_all(request)
        starting: Renewed | None = None
        for address in self._addresses:
            reply, _ = await self._ask(address, request)
            if reply is not None and reply.standing is Standing.STARTING:
                starting = starting or reply  # a starting registry decides nothing: ask the next one
            elif reply is not None:
                others = [other for other in self._addresses if other != address]
                if others and reply.in_sync.term > 0:
                    await self._publish(others, reply.in_sync)
                return reply, []
        return starting, []

    async def _renew_all(self, request: Renew) -> tuple[Renewed | None, list[Renewed]]:
        answers = await asyncio.gather(*(self._renew(address, request) for address in self._addresses))
        replies = [reply for reply, _ in answers if reply is not None]
        return (replies[0] if replies else None), replies[1:]

    async def _renew(self, address: str, request: Renew) -> tuple[Renewed | None, bool]:
        """Renew at a registry, and once more if it has restarted.

        Returns:
            Its answer, or None; and whether it may have received a renewal.
        """
        sent = False
        for _ in range(2):
            start = self._starts.get(address, 0)
            began_s = asyncio.get_running_loop().time()
            self._renewing_s.append(began_s)
            try:
                reply, received = await self._ask(address, msgspec.structs.replace(request, registry=start))
            finally:
                self._renewing_s.remove(began_s)
            if received:
                sent, self._renewed_s = True, max(began_s, self._renewed_s)
            if reply is None or reply.registry == start:
                return reply, sent
            self._starts[address] = reply.registry
        return None, sent

    async def _publish(self, others: Sequence[str], in_sync: InSyncSet) -> None:
        """Send a new set to the other registries, and return when each has it or its leases have lapsed."""
        renewal = self._renewal(in_sync)
        if in_sync.find(Identity(renewal.node, renewal.incarnation)):
            await asyncio.gather(*(self._publish_to(address, renewal) for address in others))

    async def _publish_to(self, address: str, renewal: Renew) -> None:
        ends_s = asyncio.get_running_loop().time() + PUBLISH_S
        while asyncio.get_running_loop().time() < ends_s:
            reply, sent = await self._renew(address, renewal)
            if reply is not None or not sent:  # it has the set, or it cannot be reached and so lists nobody
                return
            await asyncio.sleep(PUBLISH_PAUSE_S)

    async def _ask(self, address: str, request: RegistryRequest) -> tuple[Renewed | None, bool]:
        try:
            reply = await self._transport.call(address, request, timeout_s=self._answer_s)
        except PeerError as error:
            if address not in self._failing:
                log.warning("registry does not answer", registry=address, reason=error.reason)
                self._failing.add(address)
            return None, not isinstance(error, UnreachableError)
        self._failing.discard(address)
        return (reply if isinstance(reply, Renewed) else None), True
