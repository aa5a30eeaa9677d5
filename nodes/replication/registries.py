"""How a replica asks the registries: the first that answers, in the order of the configuration, decides."""

import asyncio
from collections.abc import Callable, Sequence

import msgspec
import structlog

from common.errors import PeerError, UnreachableError
from common.protocol.replication import Identity, InSyncSet, Renew, Renewed, Standing
from common.rpc.pipelined import PipelinedTransport
from nodes.replication.core.effects import RegistryRequest

log = structlog.get_logger()

PAUSE_S = 0.05  # between two tries to tell one of them
TELL_S = 3.0  # for the others to hear of a new set: then the leases that they gave have lapsed


class Registries:
    """The registries, for one replica.

    Args:
        transport: carries requests.
        addresses: host:port of each, in the order of the configuration.
        renewal: a renewal with an in-sync set that this replica is about to adopt.
        answer_s: for one registry to answer.
    """

    def __init__(
        self,
        transport: PipelinedTransport,
        addresses: Sequence[str],
        renewal: Callable[[InSyncSet], Renew],
        answer_s: float,
    ) -> None:
        self._transport = transport
        self._addresses = tuple(addresses)
        self._renewal = renewal
        self._answer_s = answer_s
        self._renewing_s: list[float] = []  # when the renewals were sent that are under way
        self._renewed_s = float("-inf")
        self._starts: dict[str, int] = {}  # the start of each registry, as it named it last
        self._failing: set[str] = set()  # registries that did not answer the last time

    @property
    def renewed_s(self) -> float:
        """When the last renewal was sent that a registry may have received, in the time of the event loop."""
        return max([self._renewed_s, *self._renewing_s])

    async def ask(self, request: RegistryRequest) -> tuple[Renewed | None, list[Renewed]]:
        """The deciding answer, or None; and the answers of the other registries, if they were asked."""
        if isinstance(request, Renew):
            return await self._renew_all(request)
        starting: Renewed | None = None
        for address in self._addresses:
            reply, _ = await self._ask(address, request)
            if reply is not None and reply.standing is Standing.STARTING:
                starting = starting or reply  # it has decided nothing
            elif reply is not None:
                others = [other for other in self._addresses if other != address]
                if others and reply.in_sync.term > 0:
                    await self._tell(others, reply.in_sync)
                return reply, []
        return starting, []

    async def _renew_all(self, request: Renew) -> tuple[Renewed | None, list[Renewed]]:
        answers = await asyncio.gather(*(self._renew(address, request) for address in self._addresses))
        replies = [reply for reply, _ in answers if reply is not None]
        return (replies[0] if replies else None), replies[1:]

    async def _renew(self, address: str, request: Renew) -> tuple[Renewed | None, bool]:
        """Renew, and once more if the registry has restarted: its answer, and whether a renewal may have come there."""
        sent = False
        for _ in range(2):
            known = self._starts.get(address, 0)
            began_s = asyncio.get_running_loop().time()
            self._renewing_s.append(began_s)
            try:
                reply, received = await self._ask(address, msgspec.structs.replace(request, registry=known))
            finally:
                self._renewing_s.remove(began_s)
            if received:
                sent, self._renewed_s = True, max(began_s, self._renewed_s)
            if reply is None or reply.registry == known:
                return reply, sent
            self._starts[address] = reply.registry
        return None, sent

    async def _tell(self, others: Sequence[str], in_sync: InSyncSet) -> None:
        """The others hear of a new set before this replica relies on it, or their leases lapse."""
        renewal = self._renewal(in_sync)
        if in_sync.find(Identity(renewal.node, renewal.incarnation)):
            await asyncio.gather(*(self._tell_one(address, renewal) for address in others))

    async def _tell_one(self, address: str, renewal: Renew) -> None:
        ends_s = asyncio.get_running_loop().time() + TELL_S
        while asyncio.get_running_loop().time() < ends_s:
            reply, sent = await self._renew(address, renewal)
            if reply is not None or not sent:  # it knows, or it is not there and cannot list anybody
                return
            await asyncio.sleep(PAUSE_S)

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
