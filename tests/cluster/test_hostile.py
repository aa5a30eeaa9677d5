"""Tests of attacks on the ZeroMQ port of a real node: its memory and its latency stay flat."""

import contextlib
from collections.abc import Callable

import pytest

from common.protocol.messages import PAGE_MESSAGES
from common.rpc.pooled import PooledTransport
from scripts.launcher.cluster import Cluster
from tests.bench import hostile
from tests.bench.hostile import Node
from tests.support.clusters import fill

GROWTH_MB = 30  # most growth of a node: 1,000 connections of libzmq take 18
SLOW_MS = 1_000  # most for a ping in the median, beside other tests; 1 ms on a quiet machine (tests.bench.hostile)


@pytest.fixture
def node(embedded_cluster: Cluster, transport: PooledTransport) -> Node:
    """A node that has answered a ping."""
    made = Node(embedded_cluster, transport)
    made.ping_ms()
    return made


@pytest.mark.parametrize("attack", hostile.ATTACKS[:-1])
def test_attacks_leave_memory_and_latency_flat(
    node: Node, attack: Callable[[Node, contextlib.ExitStack], None]
) -> None:
    """While the attackers are connected, the node answers pings fast, and its memory does not grow."""
    before_mb = node.memory_mb()
    with contextlib.ExitStack() as held:
        attack(node, held)
        assert node.ping_ms() < SLOW_MS
        assert node.memory_mb() - before_mb < GROWTH_MB


def test_replies_that_nobody_reads_are_dropped(node: Node, embedded_cluster: Cluster) -> None:
    """A peer requests thousands of pages and reads none: a few are queued, and the others are dropped."""
    fill(embedded_cluster, [f"{number} {'x' * 200}" for number in range(2 * PAGE_MESSAGES)])
    node.ping_ms()
    before_mb = node.memory_mb()
    with contextlib.ExitStack() as held:
        hostile.unread_pages(node, held)
        assert node.ping_ms() < SLOW_MS
        assert node.memory_mb() - before_mb < 3 * GROWTH_MB
