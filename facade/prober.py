"""Asks suspects whether they are back, beside the requests, so that no request pays for it."""

import structlog

from common import rpc
from common.errors import PeerError
from common.wire import Ping, State, Status
from facade.routing import Suspects
from facade.scheduler import Event

log = structlog.get_logger()

PROBE_S = 0.3  # between two rounds: a node that is back gets requests again within this and one ping
PING_S = 0.25  # for one answer


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
