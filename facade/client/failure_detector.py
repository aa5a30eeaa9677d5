"""Failure detector: the addresses that recently failed to answer, and the probes that notice when they recover."""

from collections.abc import Sequence

import structlog

from common.errors import PeerError
from common.protocol.messages import Ping, State, Status
from common.rpc.transport import Transport, ask
from facade.server.scheduler import Event

log = structlog.get_logger()

PROBE_INTERVAL_S = 0.3  # a recovered node gets requests again within this time and one ping
PING_TIMEOUT_S = 0.25  # many times the answer of a busy node, and less than the pause before the next probe
SUSPECTS = 1_000  # most suspected addresses: as many as one answer of a registry can have


class FailureDetector:
    """The suspected addresses, shared by the requests of a facade. No I/O.

    A suspected address is tried last. So a hanging node costs one attempt timeout, and nothing more until it answers a
    probe.
    """

    def __init__(self) -> None:
        self._addresses: set[str] = set()

    def suspect(self, address: str) -> bool:
        """Note that the address did not answer; True if it was not suspected before."""
        new = address not in self._addresses and len(self._addresses) < SUSPECTS
        if new:
            self._addresses.add(address)
        return new

    def clear(self, address: str) -> bool:
        """Note that the address answered; True if it was suspected before."""
        suspected = address in self._addresses
        self._addresses.discard(address)
        return suspected

    def __contains__(self, address: object) -> bool:
        """True if the address is suspected."""
        return address in self._addresses

    def suspects(self) -> tuple[str, ...]:
        """All suspected addresses."""
        return tuple(self._addresses)

    def suspects_last(self, addresses: Sequence[str]) -> list[str]:
        """The same addresses in the same order, but with the suspected ones after the others."""
        suspects = self._addresses
        return sorted(addresses, key=suspects.__contains__) if suspects else list(addresses)


def run_probes(transport: Transport, detector: FailureDetector, stop: Event) -> None:
    """Probe the suspected addresses every PROBE_INTERVAL_S until `stop` is set; for a greenlet of its own."""
    while not stop.wait(PROBE_INTERVAL_S):
        probe_suspects(transport, detector)


def probe_suspects(transport: Transport, detector: FailureDetector) -> None:
    """Ping each suspected address once, and clear those that report to be ready."""
    for address in detector.suspects():
        try:
            status = ask(transport, address, Ping(), Status, timeout_s=PING_TIMEOUT_S)
        except PeerError:
            continue
        if (status.state is State.READY or status.service == "registry") and detector.clear(address):
            log.info("address answers again", node=address)
