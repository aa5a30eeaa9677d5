"""Tests of nodes.lease over the in-memory transport."""

import asyncio

from structlog.typing import EventDict

from common.loopback import MemoryTransport
from common.wire import Known, Leave, Lookup, Register
from nodes.lease import Lease
from registry.directory import Directory


def test_a_lease_is_held_in_every_registry_and_given_back(logged: list[EventDict]) -> None:
    """Each registry is told, also beside a silent one, which the log names once; at the end the node leaves."""
    directories = {address: Directory({"logging-service": ("a:1",)}, {}) for address in ("r:1", "r:2")}
    transport = MemoryTransport({address: directory.handle for address, directory in directories.items()})
    lease = Lease(transport, ["dead:1", "r:1", "r:2"], name="logging-service", address="n:1", view=lambda: ("m1",))

    def served() -> list[tuple[str, ...]]:
        replies = [asyncio.run(one.handle(Lookup(name="logging-service"))) for one in directories.values()]
        return [reply.values for reply in replies if isinstance(reply, Known)]

    async def hold() -> list[tuple[str, ...]]:
        async with lease.held():
            await lease.renew()
            return await asyncio.to_thread(served)

    during = asyncio.run(hold())

    assert [("a:1", "n:1")] * 2 == during
    assert [("a:1",)] * 2 == served()
    assert Register(name="logging-service", address="n:1", view=("m1",)) in [request for _, request in transport.called]
    assert ("r:2", Leave(name="logging-service", address="n:1")) in transport.called
    (line,) = logged
    assert ("registry silent", "dead:1") == (line["event"], line["reason"].address)


def test_who_was_cut_off_catches_up_before_it_is_handed_out_again() -> None:
    """When a registry answers that was silent, others have gone on meanwhile: first the node gets what they have."""
    directory = Directory({"logging-service": ("a:1",)}, {})
    transport = MemoryTransport({"r:1": directory.handle})
    registered_when: list[int] = []

    async def returning() -> None:
        registered_when.append(sum(isinstance(request, Register) for _, request in transport.called))

    async def run() -> None:
        lease = Lease(transport, ["r:1"], name="logging-service", address="n:1", returning=returning)
        await lease.renew()
        transport.kill("r:1")
        await lease.renew()
        await lease.renew()
        assert [] == registered_when
        transport.revive("r:1")
        await lease.renew()
        await lease.renew()

    asyncio.run(run())

    assert [2] == registered_when  # after the one that was answered and the one that was not, before the next one
    assert 4 == sum(isinstance(request, Register) for _, request in transport.called)
