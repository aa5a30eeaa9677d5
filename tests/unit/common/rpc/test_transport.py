"""Tests of common.rpc.transport: one contract for real sockets and for the in-memory transport."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from common.errors import FailedError, RefusedError, UnreachableError
from common.protocol.messages import Describe, Description, Lookup, Ping, Status
from common.rpc.memory import MemoryTransport
from common.rpc.pooled import PooledTransport
from common.rpc.transport import Transport, ask, decoded
from scripts.launcher.ports import free_addresses
from tests.support.servers import READY, handle, serving

OpenTransport = Callable[[], AbstractContextManager[tuple[Transport, str]]]


@contextmanager
def open_real() -> Iterator[tuple[Transport, str]]:
    """A transport over real sockets, and the address of a real server."""
    transport = PooledTransport()
    with serving(handle) as address:
        yield transport, address
        transport.close()


@contextmanager
def open_in_memory() -> Iterator[tuple[Transport, str]]:
    """A transport in memory, and the address of its server."""
    yield MemoryTransport({"a:1": handle}), "a:1"


@pytest.fixture(params=[open_real, open_in_memory])
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
