"""Tests of common.rpc.transport: one contract for real sockets and for the in-memory transport."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    closing,
    contextmanager,
)

import pytest

from common.errors import DisconnectedError, FailedError, RefusedError, TimedOutError, UnreachableError
from common.protocol.codec import Reply, Request
from common.protocol.messages import Code, Describe, Description, Failure, Lookup, Ping, Status
from common.rpc.memory import AsyncMemoryTransport, MemoryTransport
from common.rpc.pipelined import PipelinedTransport, WaitingTransport
from common.rpc.pooled import PooledTransport
from common.rpc.transport import AsyncTransport, Transport, ask, decoded
from facade.server.scheduler import Scheduler
from scripts.launcher.ports import free_addresses
from tests.support.servers import READY, handle, serving, serving_in_loop

OpenTransport = Callable[[], AbstractContextManager[tuple[Transport, str]]]


@contextmanager
def open_real() -> Iterator[tuple[Transport, str]]:
    """The transport of scripts, and the address of a real server."""
    transport = PooledTransport()
    with serving(handle) as address:
        yield transport, address
        transport.close()


@contextmanager
def open_in_memory() -> Iterator[tuple[Transport, str]]:
    """A transport in memory, and the address of its server."""
    yield MemoryTransport({"a:1": handle}), "a:1"


@contextmanager
def open_waiting() -> Iterator[tuple[Transport, str]]:
    """The transport of a facade, with a scheduler of its own, and the address of a real server."""
    scheduler = Scheduler()
    pipelines = PipelinedTransport(loop=scheduler)
    with serving(handle) as address:
        yield WaitingTransport(pipelines, scheduler.wait), address
        pipelines.close()
    scheduler.close()


@pytest.fixture(params=[open_real, open_waiting, open_in_memory])
def endpoint(request: pytest.FixtureRequest) -> Iterator[tuple[Transport, str]]:
    """A transport, and an address at which `handle` answers."""
    open_transport: OpenTransport = request.param
    with open_transport() as (transport, address):
        yield transport, address


def test_a_request_gets_the_reply_of_the_handler(endpoint: tuple[Transport, str]) -> None:
    """The reply is what the handler returned."""
    transport, address = endpoint

    assert READY == ask(transport, address, Ping(), Status, timeout_s=10.0)
    assert "hi" == ask(transport, address, Describe(), Description, timeout_s=10.0).text


def test_each_failure_of_a_handler_has_its_own_error(endpoint: tuple[Transport, str]) -> None:
    """A refusal, a failed step and a defect are different errors; that of a defect has no details."""
    transport, address = endpoint

    with pytest.raises(RefusedError, match="starting: not yet"):
        ask(transport, address, Lookup(name="refuse"), Status, timeout_s=10.0)
    with pytest.raises(FailedError, match="failed: the store is away"):
        ask(transport, address, Lookup(name="store"), Status, timeout_s=10.0)
    with pytest.raises(FailedError, match="failed: internal error"):
        ask(transport, address, Lookup(name="defect"), Status, timeout_s=10.0)
    with pytest.raises(FailedError, match="answered Description where Status belongs"):
        ask(transport, address, Describe(), Status, timeout_s=10.0)
    assert READY == ask(transport, address, Ping(), Status, timeout_s=10.0)


def test_a_frame_that_is_no_reply_is_a_failure_of_the_peer() -> None:
    """The request was sent, so its outcome is unknown."""
    with pytest.raises(FailedError, match=r"a:1: answered with an invalid frame: .*not msgpack"):
        decoded("a:1", b"\xc1 garbage")


def test_an_address_without_a_server_is_unreachable_at_once(endpoint: tuple[Transport, str]) -> None:
    """The error costs far less than the timeout."""
    transport, _ = endpoint
    (nowhere,) = free_addresses(1)
    began_s = time.monotonic()

    with pytest.raises(UnreachableError, match="no connection"):
        transport.call(nowhere, Ping(), timeout_s=5.0)
    assert time.monotonic() - began_s < 4.0


def test_a_request_without_an_answer_times_out() -> None:
    """The request was sent, so its outcome is unknown; the transport can be used again."""
    for open_transport in (open_real, open_waiting):
        with open_transport() as (transport, address):
            with pytest.raises(TimedOutError, match=r"no reply in 0.1 s"):
                transport.call(address, Lookup(name="hang"), timeout_s=0.1)
            assert READY == transport.call(address, Ping(), timeout_s=5.0)
    hung = MemoryTransport({"a:1": handle}, sleep=lambda _seconds: None)
    hung.hang("a:1")
    with pytest.raises(TimedOutError, match=r"no reply in 0.1 s"):
        hung.call("a:1", Ping(), timeout_s=0.1)


@asynccontextmanager
async def open_pipelined() -> AsyncIterator[tuple[AsyncTransport, str]]:
    """The transport of a node, and the address of a real server."""
    async with serving_in_loop(handle) as address:
        with closing(PipelinedTransport()) as transport:
            yield transport, address


@asynccontextmanager
async def open_async_in_memory() -> AsyncIterator[tuple[AsyncTransport, str]]:
    """A transport in memory for an event loop, and the address of its server."""
    yield AsyncMemoryTransport({"a:1": handle}), "a:1"


@pytest.mark.parametrize("open_async", [open_pipelined, open_async_in_memory])
def test_a_transport_for_an_event_loop_has_the_same_contract(
    open_async: Callable[[], AbstractAsyncContextManager[tuple[AsyncTransport, str]]],
) -> None:
    """Replies, failures, no connection and no answer are told apart as by a blocking transport."""

    async def run() -> None:
        (nowhere,) = free_addresses(1)
        async with open_async() as (transport, address):
            assert READY == await transport.call(address, Ping(), timeout_s=5.0)
            refused = await transport.call(address, Lookup(name="refuse"), timeout_s=5.0)
            assert Failure(code=Code.STARTING, reason="not yet") == refused
            with pytest.raises(UnreachableError, match="no connection"):
                await transport.call(nowhere, Ping(), timeout_s=5.0)
            with pytest.raises(TimedOutError, match=r"no reply in 0.1 s"):
                await transport.call(address, Lookup(name="hang"), timeout_s=0.1)
            assert READY == await transport.call(address, Ping(), timeout_s=5.0)

    asyncio.run(run())


def test_the_twin_for_an_event_loop_can_kill_hang_cut_and_revive() -> None:
    """Each fault has its error, and a cut connection breaks only after the request was handled."""
    handled: list[Request] = []

    async def note(request: Request) -> Reply:
        handled.append(request)
        return READY

    async def run() -> None:
        transport = AsyncMemoryTransport({"a:1": note})
        for fault, error in (
            (transport.kill, UnreachableError),
            (transport.hang, TimedOutError),
            (transport.cut, DisconnectedError),
        ):
            fault("a:1")
            with pytest.raises(error):
                await transport.call("a:1", Ping(), timeout_s=0.01)
            transport.revive("a:1")
        assert READY == await transport.call("a:1", Ping(), timeout_s=5.0)

    asyncio.run(run())

    assert [Ping()] * 2 == handled
