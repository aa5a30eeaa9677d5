"""Tests of common.rpc.pooled: REQ sockets that are lent to one call at a time."""

import asyncio
import threading
import time

import psutil
import pytest
import zmq

from common.errors import (
    DisconnectedError,
    FailedError,
    TimedOutError,
    UnreachableError,
)
from common.hostport import split
from common.protocol import messages
from common.protocol.codec import Reply, Request
from common.protocol.messages import Describe, Description, Ping
from common.rpc.pooled import PooledTransport
from scripts.launcher.ports import free_addresses
from tests.support.servers import READY, handle, reply_or_none, serving
from tests.support.waiting import eventually


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:", "127.0.0.1:99999", "a b:1", "127.0.0.1:0x"])
def test_an_invalid_address_is_unreachable(transport: PooledTransport, address: str) -> None:
    """A registry may list anything: it costs an attempt, and nothing else fails."""
    with pytest.raises(UnreachableError):
        transport.call(address, Ping(), timeout_s=0.5)


def test_a_late_reply_is_not_taken_for_that_of_the_next_request(transport: PooledTransport) -> None:
    """After a timeout the same socket serves the next requests, and each gets its own reply."""
    release = threading.Event()

    async def slow(request: Request) -> Reply:
        if isinstance(request, Describe):
            await asyncio.to_thread(release.wait, 5.0)
            return Description(text="late")
        return READY

    with serving(slow) as address:
        assert READY == transport.call(address, Ping(), timeout_s=5.0)  # so that there is a connection
        with pytest.raises(TimedOutError, match=r"no reply in 0\.1 s"):
            transport.call(address, Describe(), timeout_s=0.1)
        release.set()
        assert [READY] * 20 == [transport.call(address, Ping(), timeout_s=1.0) for _ in range(20)]


def test_a_connection_that_breaks_before_the_reply_fails_at_once(transport: PooledTransport) -> None:
    """The call does not wait for its timeout; the next one finds no server."""
    (address,) = free_addresses(1)
    with zmq.Context() as context, context.socket(zmq.ROUTER) as peer:
        peer.setsockopt(zmq.LINGER, 0)
        peer.bind(f"tcp://{address}")

        def receive_and_close() -> None:
            peer.recv_multipart()
            peer.close()

        closing = threading.Thread(target=receive_and_close)
        closing.start()
        began_s = time.monotonic()
        with pytest.raises(DisconnectedError, match="broke before the reply"):
            transport.call(address, Ping(), timeout_s=5.0)
        assert time.monotonic() - began_s < 4.0  # below the timeout
        closing.join()
    with pytest.raises(UnreachableError):
        transport.call(address, Ping(), timeout_s=5.0)


def test_a_restarted_server_is_reached_again(transport: PooledTransport) -> None:
    """The connection is made again within the reconnect interval."""
    with serving(handle) as address:
        assert READY == transport.call(address, Ping(), timeout_s=1.0)
    with serving(handle, address=address):
        assert READY == eventually(lambda: reply_or_none(transport, address))


def test_idle_connections_to_dead_servers_do_not_block_others() -> None:
    """If no thread reads its reports of attempts to reconnect, libzmq stops working after 2,000 of them."""
    entered, release = threading.Semaphore(0), threading.Event()

    async def wait_for_release(_request: Request) -> Reply:
        entered.release()
        await asyncio.to_thread(release.wait, 10.0)
        return READY

    transport = PooledTransport(reconnect_ms=(1, 1), idle_s=2.0)
    with serving(handle) as living:
        with serving(wait_for_release) as dying:
            callers = [
                threading.Thread(target=transport.call, args=(dying, Ping()), kwargs={"timeout_s": 10.0}) for _ in "123"
            ]
            for caller in callers:
                caller.start()
            assert all(entered.acquire(timeout=5.0) for _ in callers)
            release.set()
            for caller in callers:
                caller.join()
        ends_s = time.monotonic() + 6.0  # some thousand attempts
        while time.monotonic() < ends_s:
            assert READY == transport.call(living, Ping(), timeout_s=1.0)
    transport.close()


def test_an_idle_connection_is_closed() -> None:
    """The next call to its address makes a new one."""
    transport = PooledTransport(idle_s=0.0)
    with serving(handle) as one, serving(handle) as other:
        for address in (one, other, one):
            assert READY == transport.call(address, Ping(), timeout_s=5.0)
        eventually(lambda: (1, 0) == (open_connections(one), open_connections(other)))
    transport.close()


def open_connections(address: str) -> int:
    """The number of connections from this process to an address."""
    connections = psutil.Process().net_connections("tcp4")
    return sum(
        connection.status == psutil.CONN_ESTABLISHED and connection.raddr == split(address)
        for connection in connections
    )


def test_an_invalid_reply_is_a_failure_of_the_peer(transport: PooledTransport) -> None:
    """A reply that is no message, or has several frames, is FailedError; a huge one breaks the connection."""
    replies = [[b"\xc1"], [b"a", b"b"], [bytes(messages.REPLY_BYTES + 1)]]
    with zmq.Context() as context, context.socket(zmq.ROUTER) as peer:
        peer.setsockopt(zmq.LINGER, 0)
        peer.setsockopt(zmq.RCVTIMEO, 5_000)
        port = peer.bind_to_random_port("tcp://127.0.0.1", min_port=10_000, max_port=32_000)

        def send_replies() -> None:
            for reply in replies:
                *envelope, _ = peer.recv_multipart()
                peer.send_multipart([*envelope, *reply])

        answering = threading.Thread(target=send_replies)
        answering.start()
        with pytest.raises(FailedError, match="invalid frame"):
            transport.call(f"127.0.0.1:{port}", Ping(), timeout_s=5.0)
        with pytest.raises(FailedError, match="2 frames"):
            transport.call(f"127.0.0.1:{port}", Ping(), timeout_s=5.0)
        with pytest.raises(DisconnectedError):
            transport.call(f"127.0.0.1:{port}", Ping(), timeout_s=5.0)
        answering.join()
