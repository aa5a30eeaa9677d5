"""Tests of what strangers do to the ZeroMQ port of a real node: its memory and its answers stay as they were."""

import contextlib
import socket
from collections.abc import Callable

import pytest
import zmq

from common.config import split
from common.errors import PeerError
from common.protocol import codec
from common.protocol.messages import PAGE_MESSAGES, Code, Failure, Lookup, Ping, Status
from common.rpc.pooled import PooledTransport
from scripts.launcher.cluster import Cluster
from tests.bench import hostile
from tests.bench.hostile import GREETING, READY, Node
from tests.support.clusters import fill
from tests.support.servers import handle, serving
from tests.support.waiting import eventually

GROWTH_MB = 30  # that a node may have grown: 1,000 connections of libzmq take 18
SLOW_MS = 100  # for a ping in the median, on a busy machine; 1 ms measured


@pytest.fixture
def node(embedded_cluster: Cluster, transport: PooledTransport) -> Node:
    """A node that has answered before."""
    made = Node(embedded_cluster, transport)
    made.ping_ms()
    return made


@pytest.mark.parametrize("attack", hostile.ATTACKS[:-1])
def test_strangers_leave_memory_and_latency_flat(
    node: Node, attack: Callable[[Node, contextlib.ExitStack], None]
) -> None:
    """While they are connected, and nobody else waits."""
    before_mb = node.memory_mb()
    with contextlib.ExitStack() as held:
        attack(node, held)
        assert node.ping_ms() < SLOW_MS
        assert node.memory_mb() - before_mb < GROWTH_MB


def test_replies_that_nobody_reads_are_dropped(node: Node, embedded_cluster: Cluster) -> None:
    """A peer asks for thousands of pages and reads none: a few wait for it, the rest is not kept."""
    fill(embedded_cluster, [f"{number} {'x' * 200}" for number in range(2 * PAGE_MESSAGES)])
    node.ping_ms()
    before_mb = node.memory_mb()
    with contextlib.ExitStack() as held:
        hostile.unread_pages(node, held)
        assert node.ping_ms() < SLOW_MS
        assert node.memory_mb() - before_mb < 3 * GROWTH_MB


def test_one_peer_cannot_take_all_that_a_server_does_at_once(transport: PooledTransport) -> None:
    """Over its share it is refused at once, and others are answered."""
    with serving(handle, peer_in_flight=4) as address, zmq.Context() as context, context.socket(zmq.DEALER) as greedy:
        greedy.linger = 0
        greedy.connect(f"tcp://{address}")
        hang = codec.encode(Lookup(name="hang"))
        for _ in range(6):
            greedy.send_multipart([b"", hang])
        refused = [codec.decode_reply(greedy.recv_multipart()[1]) for _ in range(2) if greedy.poll(5_000)]

        assert [Code.OVERLOADED] * 2 == [one.code for one in refused if isinstance(one, Failure)]
        assert isinstance(transport.call(address, Ping(), timeout_s=2.0), Status)


def test_connections_over_the_limit_are_closed(transport: PooledTransport) -> None:
    """Those that are there go on; when some have gone, others may come."""

    def closed(connection: socket.socket) -> bool:
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(1_000):
                pass
        return True

    with serving(handle, connections=8) as address, contextlib.ExitStack() as held:
        assert isinstance(transport.call(address, Ping(), timeout_s=2.0), Status)
        strangers = [held.enter_context(socket.create_connection(split(address), timeout=2.0)) for _ in range(7)]
        for stranger in strangers:
            stranger.sendall(GREETING + READY)
            stranger.recv(64)
        assert closed(held.enter_context(socket.create_connection(split(address), timeout=2.0)))
        assert isinstance(transport.call(address, Ping(), timeout_s=2.0), Status)
        for stranger in strangers:
            stranger.close()
        other = PooledTransport()
        held.callback(other.close)
        assert eventually(lambda: answered(other, address))


def answered(transport: PooledTransport, address: str) -> bool:
    """Whether a ping is, now."""
    try:
        return isinstance(transport.call(address, Ping(), timeout_s=1.0), Status)
    except PeerError:
        return False
