"""Tests of what strangers do to the ZeroMQ port of a real node: its memory and its answers stay as they were."""

import contextlib
import os
import socket
import time
from collections.abc import Callable
from statistics import median

import psutil
import pytest
import zmq

from common import codec
from common.config import split
from common.errors import PeerError
from common.pool import ZmqTransport
from common.transport import ask
from common.wire import PAGE_MESSAGES, Code, Failure, Lookup, Ping, Read, Status
from scripts.launcher import Cluster
from tests.support import eventually, fill, serving
from tests.test_rpc import handle

IDLE = 1_000  # connections
GROWTH_MB = 30  # that a node may have grown: 1,000 connections of libzmq take 12 MB
SLOW_MS = 100  # for a ping in the median, on a busy machine; 1 ms measured
GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)
_PROPERTIES = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00"
READY = bytes([4, len(_PROPERTIES)]) + _PROPERTIES


class Node:
    """The first logging node of a cluster, as its victim."""

    def __init__(self, cluster: Cluster, transport: ZmqTransport) -> None:
        self.address = cluster.settings.service_ips.logging_service[0]
        (pid,) = [status.pid for status in cluster.status() if status.part.address == self.address]
        self.process = psutil.Process(pid)
        self._transport = transport

    def memory_mb(self) -> float:
        """Resident."""
        return float(self.process.memory_info().rss) / 1e6

    def ping_ms(self) -> float:
        """The median of 20."""
        return median(self._ping_ms() for _ in range(20))

    def _ping_ms(self) -> float:
        began_s = time.perf_counter()
        ask(self._transport, self.address, Ping(), Status, timeout_s=5.0)
        return 1_000 * (time.perf_counter() - began_s)

    def connected(self) -> socket.socket:
        """A stranger's connection."""
        return socket.create_connection(split(self.address), timeout=10.0)


@pytest.fixture
def node(embedded_cluster: Cluster, transport: ZmqTransport) -> Node:
    """A node that has answered before."""
    made = Node(embedded_cluster, transport)
    made.ping_ms()
    return made


def garbage(node: Node, _held: contextlib.ExitStack) -> None:
    """Many connections send what is not ZeroMQ; each is cut."""
    for _ in range(300):
        with node.connected() as stranger, contextlib.suppress(OSError):
            stranger.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + os.urandom(10_000))


def half_handshakes(node: Node, held: contextlib.ExitStack) -> None:
    """Many connections begin a handshake and say no more; they are cut after two seconds."""
    for _ in range(300):
        held.enter_context(node.connected()).sendall(GREETING[:20])


def announced_gigabytes(node: Node, held: contextlib.ExitStack) -> None:
    """Whole handshakes, then a frame that is said to have 2 GiB; each is cut, nothing is kept for it."""
    for _ in range(100):
        stranger = held.enter_context(node.connected())
        with contextlib.suppress(OSError):
            stranger.sendall(GREETING + READY + b"\x02" + (2**31).to_bytes(8, "big") + bytes(100_000))


def idle_connections(node: Node, held: contextlib.ExitStack) -> None:
    """A thousand whole handshakes, then silence."""
    for _ in range(IDLE):
        held.enter_context(node.connected()).sendall(GREETING + READY)


@pytest.mark.parametrize("attack", [garbage, half_handshakes, announced_gigabytes, idle_connections])
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
    before_mb, frame = node.memory_mb(), codec.encode(Read(after="", limit=PAGE_MESSAGES))
    with zmq.Context() as context, context.socket(zmq.DEALER) as greedy:
        greedy.linger, greedy.rcvhwm, greedy.sndhwm = 0, 1, 100_000
        greedy.connect(f"tcp://{node.address}")
        for _ in range(3_000):  # of 300 kB each: 900 MB
            greedy.send_multipart([b"", frame])
        assert node.ping_ms() < SLOW_MS
        assert node.memory_mb() - before_mb < 3 * GROWTH_MB


def test_one_peer_cannot_take_all_that_a_server_does_at_once(transport: ZmqTransport) -> None:
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


def test_connections_over_the_limit_are_closed(transport: ZmqTransport) -> None:
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
        other = ZmqTransport()
        held.callback(other.close)
        assert eventually(lambda: answered(other, address))


def answered(transport: ZmqTransport, address: str) -> bool:
    """Whether a ping is, now."""
    try:
        return isinstance(transport.call(address, Ping(), timeout_s=1.0), Status)
    except PeerError:
        return False
