"""Registration of an address at the registries: a lease that is renewed until the address is deregistered."""

import asyncio
from collections.abc import Sequence

import structlog

from common.discovery.leases import RENEWAL_S
from common.discovery.lookup import ANSWER_S
from common.errors import PeerError
from common.protocol.messages import Deregister, Register
from common.rpc.loop import Handle, Loop
from common.rpc.pipelined import PipelinedTransport

log = structlog.get_logger()


class Registration:
    """Renews the lease of one address at each registry. Logging nodes use `nodes.replication` instead.

    Args:
        loop: the event loop of this process: asyncio's, or the scheduler of a facade.
        transport: sends the requests.
        registries: host:port of each registry.
        name: the service that is offered at the address.
        address: host:port of this process.
    """

    def __init__(
        self, loop: Loop, transport: PipelinedTransport, registries: Sequence[str], *, name: str, address: str
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._registries = tuple(registries)
        self._name = name
        self._address = address
        self._timer: Handle | None = None

    def renew(self) -> None:
        """Renew the lease at each registry now, and again every RENEWAL_S."""
        self._send_to_all(Register(name=self._name, address=self._address))
        self._timer = self._loop.call_later(RENEWAL_S, self.renew)

    def deregister(self) -> "list[asyncio.Future[bytes]]":
        """Stop renewing and give up the lease. Returns the pending replies; each is done within ANSWER_S."""
        if self._timer:
            self._timer.cancel()
        return self._send_to_all(Deregister(name=self._name, address=self._address))

    def _send_to_all(self, request: Register | Deregister) -> "list[asyncio.Future[bytes]]":
        answers = []
        for registry in self._registries:
            try:
                answer = self._transport.send_when_connected(registry, request, timeout_s=ANSWER_S)
            except PeerError as error:
                log.debug("registry does not answer", registry=registry, reason=error.reason)
            else:
                answer.add_done_callback(_log_failure)
                answers.append(answer)
        return answers


def _log_failure(answer: "asyncio.Future[bytes]") -> None:
    """Log a failed reply; nobody waits for it, since the next renewal follows after RENEWAL_S."""
    if not answer.cancelled() and isinstance(error := answer.exception(), PeerError):
        log.debug("registry does not answer", registry=error.address, reason=error.reason)
