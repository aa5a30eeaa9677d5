"""Which addresses did not answer lately, and whether they are back: asked beside the requests, so that none pays."""

from collections.abc import Sequence

import structlog

from common import rpc
from common.errors import PeerError
from common.wire import Ping, State, Status
from facade.server.scheduler import Event

log = structlog.get_logger()

PROBE_S = 0.3  # between two rounds: a node that is back gets requests again within this and one ping
PING_S = 0.25  # for one answer
SUSPECTS = 1_000  # most addresses to remember: as many as one answer of a registry can name


class Suspects:
    """Addresses that did not answer lately; shared by the requests of a facade.

    A suspect is tried last, so a node that hangs costs one poll timeout, and then nothing until it answers a probe.
    """

    def __init__(self) -> None:
        self._addresses: set[str] = set()

    def add(self, address: str) -> bool:
        """The address did not answer; whether that is news."""
        news = address not in self._addresses and len(self._addresses) < SUSPECTS
        if news:
            self._addresses.add(address)
        return news

    def clear(self, address: str) -> bool:
        """The address answered; whether that is news."""
        news = address in self._addresses
        self._addresses.discard(address)
        return news

    def __contains__(self, address: str) -> bool:
        """Whether the address is one now."""
        return address in self._addresses

    def known(self) -> tuple[str, ...]:
        """All suspects now."""
        return tuple(self._addresses)

    def last(self, addresses: Sequence[str]) -> list[str]:
        """The same addresses, the suspects after the others; apart from that in the same order."""
        suspects = self._addresses
        return sorted(addresses, key=suspects.__contains__) if suspects else list(addresses)


def run(transport: rpc.Transport, suspects: Suspects, stop: Event) -> None:
    """Probe until `stop` is set; for a greenlet of its own."""
    while not stop.wait(PROBE_S):
        probe(transport, suspects)


def probe(transport: rpc.Transport, suspects: Suspects) -> None:
    """Ping each suspect once, one after the other; who says that it is ready is no suspect any more."""
    for address in suspects.known():
        try:
            status = rpc.ask(transport, address, Ping(), Status, timeout_s=PING_S)
        except PeerError:
            continue
        if (status.state is State.READY or status.service == "registry") and suspects.clear(address):
            log.info("back", node=address)
