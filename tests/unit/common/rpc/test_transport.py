"""Tests of common.rpc.transport: one contract for real sockets and for the in-memory transport."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from common.errors import FailedError, RefusedError, TimedOutError, UnreachableError
from common.protocol.messages import Describe, Description, Lookup, Ping, Status
from common.rpc.memory import MemoryTransport
from common.rpc.pipelined import PipelinedTransport, WaitingTransport
from common.rpc.pooled import PooledTransport
from common.rpc.transport import Transport, ask, decoded
from facade.server.scheduler import Scheduler
from scripts.launcher.ports import free_addresses
from tests.support.servers import READY, handle, serving

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

    assert READY == ask(transport, address, Ping(), Status, timeout_s=1.0)
    assert "hi" == ask(transport, address, Describe(), Description, timeout_s=1.0).text


def test_each_failure_of_a_handler_has_its_own_error(endpoint: tuple[Transport, str]) -> None:
    """A refusal, a failed step and a defect are different errors; that of a defect has no details."""
    transport, address = endpoint

    with pytest.raises(RefusedError, match="starting: not yet"):
        ask(transport, address, Lookup(name="refuse"), Status, timeout_s=1.0)
    with pytest.raises(FailedError, match="failed: the store is away"):
        ask(transport, address, Lookup(name="store"), Status, timeout_s=1.0)
    with pytest.raises(FailedError, match="failed: internal error"):
        ask(transport, address, Lookup(name="defect"), Status, timeout_s=1.0)
    with pytest.raises(FailedError, match="answered Description where Status belongs"):
        ask(transport, address, Describe(), Status, timeout_s=1.0)
    assert READY == ask(transport, address, Ping(), Status, timeout_s=1.0)


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
