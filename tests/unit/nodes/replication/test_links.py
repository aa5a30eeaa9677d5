"""Tests of nodes.replication.links."""

import asyncio

from nodes.replication.links import refuses


def test_a_port_without_a_listener_refuses_connections() -> None:
    """A host that refuses is told apart from a port with a listener and from an unknown host."""

    async def run() -> None:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            assert not await refuses("127.0.0.1", port)
        assert await refuses("127.0.0.1", port)
        assert not await refuses("host.invalid", 1)

    asyncio.run(run())
