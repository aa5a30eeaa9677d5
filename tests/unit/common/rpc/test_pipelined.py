"""Tests of common.pipeline over real sockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import zmq
import zmq.asyncio

from common.errors import DisconnectedError, FailedError, StoreError, TimedOutError, UnreachableError
from common.protocol import codec
from common.protocol.codec import Reply, Request
from common.protocol.messages import Code, Failure, Lookup, LookupResult, Ping, State, Status
from common.rpc.handler import Handler
from common.rpc.pipelined import PipelinedTransport
from common.rpc.server import Server
from common.rpc.zmq.pipeline import IN_FLIGHT
from common.rpc.zmq.sockets import PEER_IN_FLIGHT
from common.security.keyring import Keyring
from common.telemetry import request_context
from common.telemetry.request_context import RequestContext
from scripts import keys
from scripts.launcher.ports import free_addresses
from tests.support.waiting import becomes

READY = Status(service="test", state=State.READY)
CLIENT = "127.0.0.1:1"


async def ready(_request: Request) -> Reply:
    """Answers anything."""
    return READY


async def echo(request: Request) -> Reply:
    """Answers a Lookup with its own name."""
    assert isinstance(request, Lookup)
    return LookupResult(name=request.name, values=())


async def hang(_request: Request) -> Reply:
    """Answers nothing."""
    await asyncio.Event().wait()
    return READY


@asynccontextmanager
async def served(
    handler: Handler, address: str | None = None, *, keyring: Keyring | None = None, peer_in_flight: int = 100
) -> AsyncIterator[str]:
    """The address of a server in this loop, closed at the end."""
    address, stop = address or free_addresses(1)[0], asyncio.Event()
    server = Server(address, handler, keyring, peer_in_flight=peer_in_flight)
    serving = asyncio.create_task(server.serve(stop))
    try:
        yield address
    finally:
        stop.set()
        await serving


@asynccontextmanager
async def raw_server() -> AsyncIterator[tuple[str, "zmq.asyncio.Socket"]]:
    """A ROUTER socket, which answers what the test sends, and its address."""
    (address,) = free_addresses(1)
    with zmq.asyncio.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.linger = 0
        socket.bind(f"tcp://{address}")
        yield address, socket


@contextlib.contextmanager
def calling(keyring: Keyring | None = None) -> Iterator[PipelinedTransport]:
    """A transport, closed at the end."""
    with contextlib.closing(PipelinedTransport(keyring)) as transport:
        yield transport


async def connected(transport: PipelinedTransport, address: str) -> None:
    """Return when there is a connection."""

    async def asked() -> bool:
        try:
            return READY == await transport.call(address, Ping(), timeout_s=1.0)
        except UnreachableError:
            return False

    await becomes(True, asked)


def test_a_request_is_answered() -> None:
    """Also with a Failure, which is a reply like any other; the request of the client travels along."""
    seen: list[RequestContext | None] = []

    async def handle(request: Request) -> Reply:
        seen.append(request_context.current())
        if isinstance(request, Ping):
            raise StoreError("a full disk")
        return READY

    async def run() -> None:
        source = RequestContext("order-7", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        async with served(handle) as address:
            with calling() as transport:
                with request_context.use(source):
                    assert READY == await transport.call(address, Lookup(name="x"), timeout_s=1.0)
                failure = Failure(code=Code.FAILED, reason="a full disk")
                with request_context.use(None):
                    assert failure == await transport.call(address, Ping(), timeout_s=1.0)
        assert ["order-7", None] == [found.request_id if found else None for found in seen]

    asyncio.run(run())


def test_requests_of_one_connection_are_answered_in_any_order() -> None:
    """A slow one does not hold up those that were sent after it, and each gets its own reply."""

    async def run() -> None:
        last = asyncio.Event()

        async def handle(request: Request) -> Reply:
            assert isinstance(request, Lookup)
            if request.name == "last":
                last.set()
            await last.wait()
            return LookupResult(name=request.name, values=())

        async with served(handle) as address:
            with calling() as transport:
                names = [*map(str, range(15)), "last"]
                calls = (transport.call(address, Lookup(name=name), timeout_s=5.0) for name in names)
                assert [LookupResult(name=name, values=()) for name in names] == await asyncio.gather(*calls)

    asyncio.run(run())


def test_frames_leave_in_the_order_in_which_they_were_sent() -> None:
    """Records of one origin would have gaps otherwise."""

    async def run() -> None:
        came: list[str] = []

        async def handle(request: Request) -> Reply:
            assert isinstance(request, Lookup)
            came.append(request.name)
            return READY

        async with served(handle) as address:
            with calling() as transport:
                await transport.call(address, Lookup(name="first"), timeout_s=1.0)
                names = [*map(str, range(16))]
                await asyncio.gather(*(transport.send(address, Lookup(name=one), timeout_s=1.0) for one in names))
                assert ["first", *names] == came

    asyncio.run(run())


def test_replies_that_leave_together_all_arrive() -> None:
    """One commit answers many requests: no reply is dropped, although libzmq limits what may wait in a socket."""

    async def run() -> None:
        gate = asyncio.Event()

        async def handle(_request: Request) -> Reply:
            await gate.wait()
            return READY

        async with served(handle, peer_in_flight=PEER_IN_FLIGHT) as address:
            with calling() as transport:
                for _ in range(20):
                    gate.clear()
                    calls = [
                        asyncio.create_task(transport.call(address, Ping(), timeout_s=5.0))
                        for _ in range(PEER_IN_FLIGHT)
                    ]
                    asyncio.get_running_loop().call_later(0.005, gate.set)
                    assert [READY] * PEER_IN_FLIGHT == await asyncio.gather(*calls)

    asyncio.run(run())


def test_a_reply_that_does_not_come_is_a_time_out() -> None:
    """Also when it comes later: it is dropped, and the next request gets its own reply."""

    async def run() -> None:
        gate = asyncio.Event()

        async def handle(request: Request) -> Reply:
            if isinstance(request, Ping):
                await gate.wait()
                return READY
            return await echo(request)

        async with served(handle) as address:
            with calling() as transport:
                with pytest.raises(TimedOutError, match=r"no reply in 0\.1 s"):
                    await transport.call(address, Ping(), timeout_s=0.1)
                gate.set()
                for name in ("a", "b"):
                    assert LookupResult(name=name, values=()) == await transport.call(
                        address, Lookup(name=name), timeout_s=1.0
                    )

    asyncio.run(run())


def test_a_server_that_dies_fails_what_is_under_way_at_once() -> None:
    """What it had taken may have been done; what comes next was certainly not sent, until there is a server again."""

    async def run() -> None:
        told: list[tuple[str, bool]] = []
        with calling() as transport:
            async with raw_server() as (address, socket):
                transport.watch(address, lambda *event: told.append(event))
                calls = [asyncio.create_task(transport.call(address, Ping(), timeout_s=10.0)) for _ in range(3)]
                for _ in calls:
                    await socket.recv_multipart()
            for call in calls:
                with pytest.raises(DisconnectedError, match="the connection broke before the reply"):
                    await call
            assert [(address, True), (address, False)] == told
            with pytest.raises(UnreachableError, match="no connection"):
                transport.send(address, Ping(), timeout_s=1.0)
            async with served(ready, address):
                await connected(transport, address)
            assert (address, True) == told[2]

    asyncio.run(run())


def test_a_reply_that_is_no_message_is_a_failure_of_the_peer() -> None:
    """Replies to nobody, and of another shape, are ignored."""

    async def run() -> None:
        async with raw_server() as (address, socket):
            with calling() as transport:
                call = asyncio.create_task(transport.call(address, Ping(), timeout_s=5.0))
                peer, number, empty, _ = await socket.recv_multipart()
                good = codec.encode(READY)
                for frames in ([b"\xff\xff\xff\xff", empty, good], [b"short", empty, good], [good], [number, good]):
                    await socket.send_multipart([peer, *frames])
                await socket.send_multipart([peer, number, empty, b"\xc1 garbage"])
                with pytest.raises(FailedError, match=r"answered with an invalid frame: .*not msgpack"):
                    await call

    asyncio.run(run())


def test_who_does_not_listen_is_told_before_anything_is_sent() -> None:
    """So another node may be asked at once; the same for what is no address."""

    async def run() -> None:
        (nobody,) = free_addresses(1)
        with calling() as transport:
            with pytest.raises(UnreachableError, match="no connection"):
                await transport.call(nobody, Ping(), timeout_s=1.0)
            with pytest.raises(UnreachableError, match="no connection"):
                transport.send(nobody, Ping(), timeout_s=1.0)
            with pytest.raises(UnreachableError, match="no connection can be made"):
                await transport.call("nowhere", Ping(), timeout_s=1.0)

    asyncio.run(run())


def test_the_requests_that_wait_for_their_replies_are_limited() -> None:
    """One more is not sent; when one is answered there is room again."""

    async def run() -> None:
        async with raw_server() as (address, socket):
            with calling() as transport:
                calls = [asyncio.create_task(transport.call(address, Ping(), timeout_s=10.0)) for _ in range(IN_FLIGHT)]
                envelopes = [(await socket.recv_multipart())[:3] for _ in calls]
                with pytest.raises(UnreachableError, match=f"{IN_FLIGHT} requests are unanswered"):
                    await transport.call(address, Ping(), timeout_s=1.0)
                for envelope in envelopes:
                    await socket.send_multipart([*envelope, codec.encode(READY)])
                assert [READY] * IN_FLIGHT == await asyncio.gather(*calls)
                more = asyncio.create_task(transport.call(address, Ping(), timeout_s=10.0))
                await socket.send_multipart([*(await socket.recv_multipart())[:3], codec.encode(READY)])
                assert READY == await more

    asyncio.run(run())


def test_a_server_works_on_so_many_requests_of_one_connection() -> None:
    """One more is answered at once, and others are not held up by it."""

    async def run() -> None:
        gate = asyncio.Event()

        async def handle(_request: Request) -> Reply:
            await gate.wait()
            return READY

        async with served(handle, peer_in_flight=2) as address:
            with calling() as transport, calling() as other:
                calls = [asyncio.create_task(transport.call(address, Ping(), timeout_s=5.0)) for _ in range(3)]
                (first,), _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
                overloaded = Failure(code=Code.OVERLOADED, reason="2 requests of yours are in flight")
                assert overloaded == first.result()
                another = asyncio.create_task(other.call(address, Ping(), timeout_s=5.0))
                gate.set()
                assert READY == await another
                assert 2 == [*await asyncio.gather(*calls)].count(READY)

    asyncio.run(run())


def test_a_transport_that_is_closed_drops_what_is_under_way() -> None:
    """Nobody waits for a reply that cannot come."""

    async def run() -> None:
        async with raw_server() as (address, socket):
            with calling() as transport:
                call = asyncio.create_task(transport.call(address, Ping(), timeout_s=10.0))
                await socket.recv_multipart()
            with pytest.raises(DisconnectedError, match="the connection was closed"):
                await call

    asyncio.run(run())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The keys of CLIENT."""
    keys.write_pair(tmp_path / "keys", CLIENT)
    return tmp_path / "keys"


def test_with_keys_who_is_known_is_answered(folder: Path) -> None:
    """Both sides know each other's public key; a server without a known key is not asked."""

    async def run() -> None:
        (address,) = free_addresses(1)
        keys.write_pair(folder, address)
        async with served(ready, address, keyring=Keyring(folder, address)):
            with calling(Keyring(folder, CLIENT)) as transport:
                assert READY == await transport.call(address, Ping(), timeout_s=1.0)
                with pytest.raises(UnreachableError, match="its public key is not known here"):
                    await transport.call("127.0.0.1:9", Ping(), timeout_s=1.0)

    asyncio.run(run())


def test_with_keys_a_stranger_is_not_let_in(folder: Path, tmp_path: Path) -> None:
    """Nor who has no key at all; when the key of the stranger is added, it is let in without a new start."""

    async def run() -> None:
        (address,) = free_addresses(1)
        keys.write_pair(folder, address)
        stranger = tmp_path / "stranger"
        keys.write_pair(stranger, "127.0.0.1:2")
        (stranger / f"{address}.pub").write_text((folder / f"{address}.pub").read_text())
        async with served(ready, address, keyring=Keyring(folder, address)):
            with calling(Keyring(stranger, "127.0.0.1:2")) as transport, calling() as open_one:
                for one in (transport, open_one):
                    with pytest.raises(UnreachableError):
                        await one.call(address, Ping(), timeout_s=1.0)
                (folder / "127.0.0.1:2.pub").write_text((stranger / "127.0.0.1:2.pub").read_text())
                await connected(transport, address)

    asyncio.run(run())


def test_a_server_that_has_got_a_new_key_is_followed(folder: Path) -> None:
    """The next request takes the new public key, on a new connection."""

    async def run() -> None:
        (address,) = free_addresses(1)
        with calling(Keyring(folder, CLIENT)) as transport:
            for replace in (False, True):
                keys.write_pair(folder, address, replace=replace)
                async with served(ready, address, keyring=Keyring(folder, address)):
                    await connected(transport, address)

    asyncio.run(run())
