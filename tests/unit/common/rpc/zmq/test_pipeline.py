"""Tests of common.rpc.zmq.pipeline: one DEALER socket and a bare ROUTER socket as its server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import zmq
import zmq.asyncio

from common.errors import DisconnectedError, UnreachableError
from common.rpc.zmq.pipeline import Pipeline
from common.rpc.zmq.sockets import new_context
from scripts.launcher.ports import free_addresses
from tests.support.waiting import becomes

IN_FLIGHT = 4


@asynccontextmanager
async def raw_server(address: str) -> AsyncIterator["zmq.asyncio.Socket"]:
    """The ROUTER socket that is bound to an address, which a test reads and answers."""
    with zmq.asyncio.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.linger = 0
        socket.bind(f"tcp://{address}")
        yield socket


@contextlib.contextmanager
def pipeline_to(address: str, changes: list[tuple[str, bool]] | None = None) -> Iterator[Pipeline]:
    """A pipeline, which is closed at the end; `changes` gets the arguments of each call of `watch`."""
    noted = [] if changes is None else changes
    with (
        new_context() as context,
        contextlib.closing(
            Pipeline(
                asyncio.get_running_loop(),
                context,
                address,
                None,
                watch=lambda *change: noted.append(change),
                reconnect=lambda _address: None,
                in_flight=IN_FLIGHT,
            )
        ) as pipeline,
    ):
        yield pipeline


def test_the_requests_in_flight_are_limited() -> None:
    """One more is not sent; when a reply arrives, there is room again."""

    async def run() -> None:
        (address,) = free_addresses(1)
        async with raw_server(address) as server:
            with pipeline_to(address) as pipeline:
                replies = [pipeline.send(b"request", 10.0) for _ in range(IN_FLIGHT)]
                envelopes = [(await server.recv_multipart())[:3] for _ in replies]
                with pytest.raises(UnreachableError, match=f"{IN_FLIGHT} requests are unanswered"):
                    pipeline.send(b"one more", 10.0)
                for envelope in envelopes:
                    await server.send_multipart([*envelope, b"reply"])
                assert [b"reply"] * IN_FLIGHT == await asyncio.gather(*replies)
                more = pipeline.send(b"later", 10.0)
                *envelope, frame = await server.recv_multipart()
                await server.send_multipart([*envelope, b"last reply"])
                assert (b"later", b"last reply") == (frame, await more)

    asyncio.run(run())


def test_closing_a_pipeline_fails_the_requests_in_flight() -> None:
    """No caller waits for a reply that cannot arrive."""

    async def run() -> None:
        (address,) = free_addresses(1)
        async with raw_server(address) as server:
            with pipeline_to(address) as pipeline:
                reply = pipeline.send(b"request", 10.0)
                await server.recv_multipart()
            with pytest.raises(DisconnectedError, match="the connection was closed"):
                await reply

    asyncio.run(run())


def test_requests_in_flight_fail_at_once_when_the_server_dies() -> None:
    """Their outcome is unknown; later requests are certainly not sent, until there is a server again."""

    async def run() -> None:
        changes: list[tuple[str, bool]] = []
        (address,) = free_addresses(1)
        async with AsyncExitStack() as alive:
            server = await alive.enter_async_context(raw_server(address))
            with pipeline_to(address, changes) as pipeline:
                replies = [pipeline.send(b"request", 10.0) for _ in range(3)]
                for _ in replies:
                    await server.recv_multipart()
                await alive.aclose()
                for reply in replies:
                    with pytest.raises(DisconnectedError, match="the connection broke before the reply"):
                        await reply
                assert [(address, True), (address, False)] == changes
                with pytest.raises(UnreachableError, match="no connection"):
                    pipeline.send(b"request", 10.0)

                async def is_up() -> bool:
                    return bool(pipeline.up)

                async with raw_server(address) as restarted:
                    await becomes(True, is_up)
                    reply = pipeline.send(b"request", 10.0)
                    await restarted.send_multipart([*(await restarted.recv_multipart())[:3], b"reply"])
                    assert b"reply" == await reply
                assert (address, True) == changes[2]

    asyncio.run(run())


def test_a_reply_to_no_request_is_ignored() -> None:
    """Replies with an unknown number, or of another shape, complete no request."""

    async def run() -> None:
        (address,) = free_addresses(1)
        async with raw_server(address) as server:
            with pipeline_to(address) as pipeline:
                reply = pipeline.send(b"request", 5.0)
                peer, number, empty, _ = await server.recv_multipart()
                for frames in ([b"\xff\xff\xff\xff", empty, b"x"], [b"short", empty, b"x"], [b"x"], [number, b"x"]):
                    await server.send_multipart([peer, *frames])
                await server.send_multipart([peer, number, empty, b"reply"])
                assert b"reply" == await reply

    asyncio.run(run())


def test_requests_wait_for_the_first_connection_in_their_order() -> None:
    """They are sent as soon as it is established, and may be answered in another order."""

    async def run() -> None:
        (address,) = free_addresses(1)
        async with raw_server(address) as server:
            with pipeline_to(address) as pipeline:
                replies = [pipeline.send(frame, 10.0) for frame in (b"a", b"b", b"c")]
                assert pipeline.up is None
                received = [await server.recv_multipart() for _ in replies]
                assert [b"a", b"b", b"c"] == [frames[-1] for frames in received]
                for *envelope, frame in reversed(received):
                    await server.send_multipart([*envelope, frame.upper()])
                assert [b"A", b"B", b"C"] == await asyncio.gather(*replies)

    asyncio.run(run())


def test_without_a_server_nothing_is_sent() -> None:
    """Requests that wait for the first connection fail when it is refused; an invalid address fails at once."""

    async def run() -> None:
        (address,) = free_addresses(1)
        changes: list[tuple[str, bool]] = []
        with pipeline_to(address, changes) as pipeline:
            reply = pipeline.send(b"request", 10.0)
            with pytest.raises(UnreachableError, match="no connection"):
                await reply
            assert [(address, False)] == changes
        with pytest.raises(UnreachableError, match="no connection can be made"), pipeline_to("nowhere"):
            pass

    asyncio.run(run())
