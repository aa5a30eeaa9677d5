"""Tells the registries that this facade is there, for operators who want to know which there are."""

from collections.abc import Sequence

from common import config, rpc
from common.codec import Request
from common.errors import PeerError
from common.leases import RENEWAL_S
from common.wire import Leased, Leave, Register
from facade.server.scheduler import Event

ANSWER_S = 0.25  # for one registry


def run(transport: rpc.Transport, registries: Sequence[str], own: str, stop: Event) -> None:
    """Renew the lease of `own` (host:port) until `stop` is set, then give it back; for a greenlet of its own.

    One that listens at every address of its host has none by which it could be told from others.
    """
    if config.split(own)[0] in config.EVERYWHERE:
        return
    while not stop.wait(RENEWAL_S):
        tell(transport, registries, Register(name="facade", address=own))
    tell(transport, registries, Leave(name="facade", address=own))


def tell(transport: rpc.Transport, registries: Sequence[str], request: Request) -> None:
    """Tell each registry, one after the other; one that is silent will be told by the next heartbeat."""
    for registry in registries:
        try:
            rpc.ask(transport, registry, request, Leased, timeout_s=ANSWER_S)
        except PeerError:
            continue
