"""Tests of common.discovery.registration with real registries."""

import asyncio

from common.discovery.registration import Registration
from common.protocol.messages import Lookup, LookupResult
from common.rpc.pipelined import PipelinedTransport
from registry.directory import Directory
from scripts.launcher.ports import free_addresses
from tests.support.servers import serving
from tests.support.waiting import becomes

NAME = "messages-service"


def test_an_address_is_registered_at_all_registries_until_it_leaves() -> None:
    """A registry that does not answer does not prevent that."""
    directories = [Directory({NAME: ("a:1",)}, {}) for _ in range(2)]

    async def run(registries: list[str]) -> None:
        transport = PipelinedTransport()

        async def served() -> list[tuple[str, ...]]:
            replies = [await transport.call(one, Lookup(name=NAME), timeout_s=10.0) for one in registries[1:]]
            return [reply.values for reply in replies if isinstance(reply, LookupResult)]

        registration = Registration(asyncio.get_running_loop(), transport, registries, name=NAME, address="n:1")
        registration.renew()
        both: list[tuple[str, ...]] = [("a:1", "n:1")] * 2
        await becomes(both, served)
        await asyncio.wait(registration.deregister())
        assert [("a:1",)] * 2 == await served()
        transport.close()

    with serving(directories[0].handle) as first, serving(directories[1].handle) as second:
        asyncio.run(run([*free_addresses(1), first, second]))
