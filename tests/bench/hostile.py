"""`python -m tests.bench.hostile`: attacks the ZeroMQ port of a node, and measures its memory and its latency."""

import contextlib
import os
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import click
import psutil
import zmq

from common.hostport import split
from common.protocol import codec
from common.protocol.messages import PAGE_MESSAGES, Ping, Read, Status
from common.rpc.pooled import PooledTransport
from common.rpc.transport import ask
from scripts.launcher.cluster import Cluster
from tests.support.clusters import fill, running_cluster

IDLE = 1_000  # idle connections
PAGES = 3_000  # requested pages of 300 kB each, which are never read

# The greeting and the READY command of ZMTP 3.0 with the NULL mechanism (rfc.zeromq.org/spec/23).
GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)
_PROPERTIES = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00"
READY = bytes([4, len(_PROPERTIES)]) + _PROPERTIES


class Node:
    """The attacked node: the first logging node of a cluster."""

    def __init__(self, cluster: Cluster, transport: PooledTransport) -> None:
        self.address = cluster.settings.service_ips.logging_service[0]
        (pid,) = [status.pid for status in cluster.status() if status.part.address == self.address]
        self.process = psutil.Process(pid)
        self._transport = transport

    def memory_mb(self) -> float:
        """The resident memory of its process."""
        return float(self.process.memory_info().rss) / 1e6

    def ping_ms(self) -> float:
        """The median latency of 20 pings."""
        return median(self._ping_ms() for _ in range(20))

    def _ping_ms(self) -> float:
        began_s = time.perf_counter()
        ask(self._transport, self.address, Ping(), Status, timeout_s=5.0)
        return 1_000 * (time.perf_counter() - began_s)

    def connected(self) -> socket.socket:
        """A new raw TCP connection to the node."""
        return socket.create_connection(split(self.address), timeout=10.0)


def garbage(node: Node, _held: contextlib.ExitStack) -> None:
    """Send bytes that are not ZeroMQ on 300 connections; the node closes each."""
    for _ in range(300):
        with node.connected() as stranger, contextlib.suppress(OSError):
            stranger.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + os.urandom(10_000))


def half_handshakes(node: Node, held: contextlib.ExitStack) -> None:
    """Begin 300 handshakes and send nothing more; the node closes each after two seconds."""
    for _ in range(300):
        held.enter_context(node.connected()).sendall(GREETING[:20])


def announced_gigabytes(node: Node, held: contextlib.ExitStack) -> None:
    """Complete 100 handshakes and announce a frame of 2 GiB on each; the node closes each and keeps nothing for it."""
    for _ in range(100):
        stranger = held.enter_context(node.connected())
        with contextlib.suppress(OSError):
            stranger.sendall(GREETING + READY + b"\x02" + (2**31).to_bytes(8, "big") + bytes(100_000))


def idle_connections(node: Node, held: contextlib.ExitStack) -> None:
    """Complete IDLE handshakes and send nothing more."""
    for _ in range(IDLE):
        held.enter_context(node.connected()).sendall(GREETING + READY)


def unread_pages(node: Node, held: contextlib.ExitStack) -> None:
    """Request PAGES pages and read none; the node must keep only a few of them."""
    context = held.enter_context(zmq.Context())
    greedy = held.enter_context(context.socket(zmq.DEALER))
    greedy.linger, greedy.rcvhwm, greedy.sndhwm = 0, 1, PAGES
    greedy.connect(f"tcp://{node.address}")
    for _ in range(PAGES):
        greedy.send_multipart([b"", codec.encode(Read(after="", limit=PAGE_MESSAGES))])


ATTACKS: tuple[Callable[[Node, contextlib.ExitStack], None], ...] = (
    garbage,
    half_handshakes,
    announced_gigabytes,
    idle_connections,
    unread_pages,
)


@click.command()
def main() -> None:
    """Print memory and the median latency of a ping before each attack, during it, and after its connections closed."""
    with tempfile.TemporaryDirectory() as folder, running_cluster(Path(folder), engine="embedded") as cluster:
        transport = PooledTransport()
        fill(cluster, [f"{number} {'x' * 200}" for number in range(2 * PAGE_MESSAGES)])
        node = Node(cluster, transport)
        for attack in ATTACKS:
            node.ping_ms()
            figures = [f"before {node.memory_mb():.0f} MB, {node.ping_ms():.1f} ms"]
            with contextlib.ExitStack() as held:
                attack(node, held)
                figures.append(f"meanwhile {node.memory_mb():.0f} MB, {node.ping_ms():.1f} ms")
            figures.append(f"afterwards {node.memory_mb():.0f} MB, {node.ping_ms():.1f} ms")
            click.echo(f"{attack.__name__}: {'; '.join(figures)}")
        transport.close()


if __name__ == "__main__":
    main()
