"""Tests of nodes.replication.links."""

import asyncio

from nodes.replication.links import refuses


def test_a_port_at_which_nobody_listens_refuses() -> None:
    """The host is there and the process is not; whoever listens does not refuse."""

    async def run() -> None:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            assert not await refuses("127.0.0.1", port)
        assert await refuses("127.0.0.1", port)
        assert not await refuses("host.invalid", 1)

    asyncio.run(run())
