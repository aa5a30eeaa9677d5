"""Tests of common.rpc.pipelined over real sockets."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import PeerError, StoreError, TimedOutError, UnreachableError
from common.protocol.codec import Reply, Request
from common.protocol.messages import Code, Failure, Lookup, LookupResult, Ping
from common.rpc.pipelined import PipelinedTransport
from common.rpc.zmq.sockets import PEER_IN_FLIGHT
from common.security.keyring import Keyring
from common.telemetry import request_context
from common.telemetry.request_context import RequestContext
from scripts import keys
from scripts.launcher.ports import free_addresses
from tests.support.servers import READY, serving_in_loop
from tests.support.waiting import becomes

CLIENT = "127.0.0.1:1"


async def ready(_request: Request) -> Reply:
    """Answer every request."""
    return READY


async def echo(request: Request) -> Reply:
    """Answer a Lookup with its own name."""
    assert isinstance(request, Lookup)
    return LookupResult(name=request.name, values=())


@contextlib.contextmanager
def pipelined(keyring: Keyring | None = None) -> Iterator[PipelinedTransport]:
    """A transport that is closed at the end."""
    with contextlib.closing(PipelinedTransport(keyring)) as transport:
        yield transport


async def until_connected(transport: PipelinedTransport, address: str) -> None:
    """Return as soon as the server answers."""

    async def answers() -> bool:
        try:
            return READY == await transport.call(address, Ping(), timeout_s=1.0)
        except PeerError:  # also the connection to a former server, which breaks only now
            return False

    await becomes(True, answers)


def test_a_request_is_answered() -> None:
    """A Failure is a reply like any other; the context of the client request travels with the request."""
    contexts: list[RequestContext | None] = []

    async def handle(request: Request) -> Reply:
        contexts.append(request_context.current())
        if isinstance(request, Ping):
            raise StoreError("a full disk")
        return READY

    async def run() -> None:
        context = RequestContext("order-7", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        async with serving_in_loop(handle) as address:
            with pipelined() as transport:
                with request_context.use(context):
                    assert READY == await transport.call(address, Lookup(name="x"), timeout_s=1.0)
                failure = Failure(code=Code.FAILED, reason="a full disk")
                with request_context.use(None):
                    assert failure == await transport.call(address, Ping(), timeout_s=1.0)
        assert ["order-7", None] == [found.request_id if found else None for found in contexts]

    asyncio.run(run())


def test_requests_of_one_connection_are_answered_in_any_order() -> None:
    """A slow request does not hold up the later ones, and each gets its own reply."""

    async def run() -> None:
        last = asyncio.Event()

        async def handle(request: Request) -> Reply:
            assert isinstance(request, Lookup)
            if request.name == "last":
                last.set()
            await last.wait()
            return LookupResult(name=request.name, values=())

        async with serving_in_loop(handle) as address:
            with pipelined() as transport:
                names = [*map(str, range(15)), "last"]
                calls = (transport.call(address, Lookup(name=name), timeout_s=5.0) for name in names)
                assert [LookupResult(name=name, values=()) for name in names] == await asyncio.gather(*calls)

    asyncio.run(run())


def test_frames_leave_in_the_order_in_which_they_were_sent() -> None:
    """Otherwise the records of one origin would have gaps."""

    async def run() -> None:
        received: list[str] = []

        async def handle(request: Request) -> Reply:
            assert isinstance(request, Lookup)
            received.append(request.name)
            return READY

        async with serving_in_loop(handle) as address:
            with pipelined() as transport:
                await transport.call(address, Lookup(name="first"), timeout_s=1.0)
                names = [*map(str, range(16))]
                await asyncio.gather(*(transport.send(address, Lookup(name=one), timeout_s=1.0) for one in names))
                assert ["first", *names] == received

    asyncio.run(run())


def test_replies_that_are_sent_together_all_arrive() -> None:
    """One commit answers many requests: no reply is dropped, although libzmq limits the messages in a socket."""

    async def run() -> None:
        may_answer = asyncio.Event()

        async def handle(_request: Request) -> Reply:
            await may_answer.wait()
            return READY

        async with serving_in_loop(handle, peer_in_flight=PEER_IN_FLIGHT) as address:
            with pipelined() as transport:
                for _ in range(20):
                    may_answer.clear()
                    calls = [
                        asyncio.create_task(transport.call(address, Ping(), timeout_s=5.0))
                        for _ in range(PEER_IN_FLIGHT)
                    ]
                    asyncio.get_running_loop().call_later(0.005, may_answer.set)
                    assert [READY] * PEER_IN_FLIGHT == await asyncio.gather(*calls)

    asyncio.run(run())


def test_a_late_reply_is_dropped_after_the_timeout() -> None:
    """The next request gets its own reply."""

    async def run() -> None:
        may_answer = asyncio.Event()

        async def handle(request: Request) -> Reply:
            if isinstance(request, Ping):
                await may_answer.wait()
                return READY
            return await echo(request)

        async with serving_in_loop(handle) as address:
            with pipelined() as transport:
                with pytest.raises(TimedOutError, match=r"no reply in 0\.1 s"):
                    await transport.call(address, Ping(), timeout_s=0.1)
                may_answer.set()
                for name in ("a", "b"):
                    assert LookupResult(name=name, values=()) == await transport.call(
                        address, Lookup(name=name), timeout_s=1.0
                    )

    asyncio.run(run())


def test_a_watcher_learns_of_each_connection() -> None:
    """It is called when the connection is established, when it is lost, and when there is a server again."""

    async def run() -> None:
        changes: list[tuple[str, bool]] = []
        (address,) = free_addresses(1)
        with pipelined() as transport:
            async with serving_in_loop(ready, address):
                transport.watch(address, lambda *change: changes.append(change))
                assert READY == await transport.call(address, Ping(), timeout_s=1.0)
                assert transport.is_up(address)

            async def is_up() -> bool:
                return transport.is_up(address)

            await becomes(False, is_up)
            assert [(address, True), (address, False)] == changes
            async with serving_in_loop(ready, address):
                await becomes(True, is_up)
                assert (address, True) == changes[2]

    asyncio.run(run())


def test_an_address_without_a_server_is_unreachable_before_the_request_is_sent() -> None:
    """The caller may ask another node at once; an invalid address is unreachable, too."""

    async def run() -> None:
        (free,) = free_addresses(1)
        with pipelined() as transport:
            with pytest.raises(UnreachableError, match="no connection"):
                await transport.call(free, Ping(), timeout_s=1.0)
            with pytest.raises(UnreachableError, match="no connection"):
                transport.send(free, Ping(), timeout_s=1.0)
            with pytest.raises(UnreachableError, match="no connection can be made"):
                await transport.call("nowhere", Ping(), timeout_s=1.0)

    asyncio.run(run())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the keys of CLIENT."""
    keys.write_pair(tmp_path / "keys", CLIENT)
    return tmp_path / "keys"


def test_with_keys_only_a_known_server_is_asked(folder: Path) -> None:
    """Both sides have each other's public key; a server whose key is unknown is not asked."""

    async def run() -> None:
        (address,) = free_addresses(1)
        keys.write_pair(folder, address)
        async with serving_in_loop(ready, address, keyring=Keyring(folder, address)):
            with pipelined(Keyring(folder, CLIENT)) as transport:
                assert READY == await transport.call(address, Ping(), timeout_s=1.0)
                with pytest.raises(UnreachableError, match="its public key is not known here"):
                    await transport.call("127.0.0.1:9", Ping(), timeout_s=1.0)

    asyncio.run(run())


def test_with_keys_an_unknown_client_is_refused(folder: Path, tmp_path: Path) -> None:
    """A client without keys is refused, too; a client whose key is added is admitted without a restart."""

    async def run() -> None:
        (address,) = free_addresses(1)
        keys.write_pair(folder, address)
        unknown = tmp_path / "unknown"
        keys.write_pair(unknown, "127.0.0.1:2")
        (unknown / f"{address}.pub").write_text((folder / f"{address}.pub").read_text())
        async with serving_in_loop(ready, address, keyring=Keyring(folder, address)):
            with pipelined(Keyring(unknown, "127.0.0.1:2")) as transport, pipelined() as without_keys:
                for one in (transport, without_keys):
                    with pytest.raises(UnreachableError):
                        await one.call(address, Ping(), timeout_s=1.0)
                (folder / "127.0.0.1:2.pub").write_text((unknown / "127.0.0.1:2.pub").read_text())
                await until_connected(transport, address)

    asyncio.run(run())


def test_a_server_with_a_new_key_is_reached_again(folder: Path) -> None:
    """The next request uses the new public key, on a new connection."""

    async def run() -> None:
        (address,) = free_addresses(1)
        with pipelined(Keyring(folder, CLIENT)) as transport:
            for replace in (False, True):
                keys.write_pair(folder, address, replace=replace)
                async with serving_in_loop(ready, address, keyring=Keyring(folder, address)):
                    await until_connected(transport, address)

    asyncio.run(run())


def test_a_port_without_a_listener_refuses_connections() -> None:
    """A host that refuses is told apart from a port with a listener and from an unknown host."""

    async def run() -> None:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pipelined() as transport:
            async with server:
                assert not await transport.refuses(address)
            assert await transport.refuses(address)
            assert not await transport.refuses("host.invalid:1")

    asyncio.run(run())
