"""Tests of facade.status.collector: the status of the cluster, from the reports of its processes."""

import asyncio
import threading
import time
from typing import Any

import msgspec
import pytest

from common import VERSION
from common.protocol.admin import HazelcastMember, Inspect, LeaseInfo, Leases, ListLeases, Report
from common.protocol.codec import Reply, Request
from common.protocol.messages import State
from common.rpc.handler import Handler
from common.rpc.memory import MemoryTransport
from common.rpc.pipelined import PipelinedTransport, WaitingTransport
from facade.client.failure_detector import FailureDetector
from facade.client.node_statistics import NodeStatistics
from facade.server.scheduler import Scheduler
from facade.status.collector import StatusCollector
from tests.support.servers import serving

NODES = ("127.0.0.1:5002", "127.0.0.1:5003", "127.0.0.1:5004")
REGISTRY, OTHER_REGISTRY, MESSAGES = "127.0.0.1:5005", "127.0.0.1:5105", "127.0.0.1:5001"
TERM = 12


class MemoryCluster:
    """Processes in memory that answer with the reports of a test.

    Attributes:
        reports: the report of each logging node.
        leases: the leases that both registries report.
    """

    def __init__(self) -> None:
        leases = [LeaseInfo("logging-service", address, True, True, True, 0.1) for address in NODES]
        leases.append(LeaseInfo("messages-service", MESSAGES, True, True, True, 0.1))
        self.leases = Leases(leases=tuple(leases), members=())
        self.reports = {address: replica_report() for address in NODES}
        handlers = {address: self._node(address) for address in NODES}
        handlers |= {REGISTRY: self._registry, OTHER_REGISTRY: self._registry, MESSAGES: self._messages}
        self.transport = MemoryTransport(handlers)
        self.detector = FailureDetector()
        self.statistics = NodeStatistics()
        registries = [REGISTRY, OTHER_REGISTRY]
        self.collector = StatusCollector(Scheduler(), self.transport, registries, self.detector, self.statistics)

    def _node(self, address: str) -> Handler:
        async def answer(_request: Request) -> Reply:
            return self.reports[address]

        return answer

    async def _registry(self, request: Request) -> Reply:
        return self.leases if isinstance(request, ListLeases) else Report(service="registry", state=State.READY)

    async def _messages(self, _request: Request) -> Reply:
        return Report(service="messages-service", state=State.READY)


def replica_report(**fields: Any) -> Report:
    """The report of a node on the embedded engine that is in sync with the others, except for the given fields."""
    well: dict[str, Any] = {"state": State.READY, "engine": "embedded", "term": TERM, "in_sync": NODES}
    return Report(service="logging-service", **well | fields)


@pytest.fixture
def cluster() -> MemoryCluster:
    """A cluster in memory that is well."""
    return MemoryCluster()


def test_a_cluster_without_hazelcast_is_safe(cluster: MemoryCluster) -> None:
    """Each node has its own journal, so the same rules hold for both engines."""
    found = cluster.collector.collect()

    assert (True, "any two nodes may die", "embedded") == (found.safe, found.reason, found.engine)
    assert [(TERM, [*NODES], 0, "")] * 3 == [
        (one.term, one.in_sync, one.unconfirmed, one.reason) for one in found.logging_nodes
    ]


def test_a_process_that_does_not_answer_is_down(cluster: MemoryCluster) -> None:
    """A dead node and a dead registry are down, the others are up; the requests to each node are counted."""
    cluster.statistics.record(NODES[0], 0.001)
    cluster.transport.kill(NODES[1])
    cluster.transport.kill(OTHER_REGISTRY)
    found = cluster.collector.collect()

    assert [(REGISTRY, "up"), (OTHER_REGISTRY, "down")] == [(one.address, one.status) for one in found.registries]
    assert [(NODES[0], "up", "ready", 1), (NODES[1], "down", "down", 0), (NODES[2], "up", "ready", 0)] == [
        (one.address, one.status, one.state, one.served) for one in found.logging_nodes
    ]
    assert [(MESSAGES, "up")] == [(one.address, one.status) for one in found.messages_nodes]
    assert (False, f"{NODES[1]} is down", "embedded") == (found.safe, found.reason, found.engine)
    assert {VERSION} == {one.version for one in found.logging_nodes if one.status == "up"}
    cluster.transport.kill(REGISTRY)
    without_registry = cluster.collector.collect()
    assert (False, "no registry answers") == (without_registry.safe, without_registry.reason)
    assert [*NODES] == [one.address for one in without_registry.logging_nodes]


def test_a_replica_that_was_fenced_is_shown_with_its_reason(cluster: MemoryCluster) -> None:
    """The status of a node has its state, the reason, and the number of records that no other replica confirmed."""
    reason = "this replica was fenced"
    cluster.reports[NODES[2]] = replica_report(state=State.JOINING, in_sync=(), term=13, reason=reason, unconfirmed=7)
    found = cluster.collector.collect()

    assert (False, f"{NODES[2]} is joining: {reason}") == (found.safe, found.reason)
    fenced = found.logging_nodes[2]
    assert ("joining", reason, 13, [], 7) == (
        *(fenced.state, fenced.reason, fenced.term, fenced.in_sync, fenced.unconfirmed),
    )


def test_a_suspect_is_shown_as_one(cluster: MemoryCluster) -> None:
    """A node that did not answer a request of the facade is a suspect, although it answers the collector."""
    cluster.detector.suspect(NODES[0])

    assert ["suspect", "up", "up"] == [one.status for one in cluster.collector.collect().logging_nodes]


def test_the_status_combines_the_reports_of_nodes_and_registries() -> None:
    """It has leases, Hazelcast members with their partitions and the nodes that see them, and the sizes of journals."""
    seen = (HazelcastMember("u1", "m:1", 136), HazelcastMember("u2", "m:2", 135))
    replies: dict[str, Leases | Report] = {
        "r:1": Leases(
            leases=(
                LeaseInfo("logging-service", "n:1", True, True, True, 0.24),
                LeaseInfo("logging-service", "n:2", False, True, False, 1.0),
                LeaseInfo("facade", "f:1", True, True, False, 0.5),
            ),
            members=("m:1", "m:2", "m:3"),
        ),
        "n:1": Report(
            service="logging-service",
            state=State.READY,
            engine="hazelcast",
            own_member="m:1",
            members=seen,
            entries=7,
            messages=9,
            journal_bytes=4_096,
            synced_ms=1,
            since_ms=1_000,
            served=5,
        ),
        "n:2": Report(service="logging-service", state=State.READY, engine="hazelcast", members=seen[:1]),
    }

    class RecordedTransport:
        """Answers with the recorded replies."""

        def call(self, address: str, request: Request, *, timeout_s: float) -> Reply:
            del timeout_s
            return replies["n:2"] if address == "r:1" and isinstance(request, Inspect) else replies[address]

    found = StatusCollector(
        Scheduler(), RecordedTransport(), ["r:1"], FailureDetector(), NodeStatistics(), own="f:1"
    ).collect()

    assert [
        ("n:1", 0.2, True, "m:1", 9, 4_096, "1970-01-01T00:00:00.001Z", "1970-01-01T00:00:01.000Z", 5),
        ("n:2", 1.0, False, "", 0, 0, "", found.logging_nodes[1].since, 0),
    ] == [
        (
            one.address,
            one.lease_age_s,
            one.listed,
            one.member,
            one.messages,
            one.journal_bytes,
            one.synced,
            one.since,
            one.total,
        )
        for one in found.logging_nodes
    ]
    assert (271, 7) == (found.hazelcast.partitions, found.hazelcast.entries)
    assert [("m:1", "n:1", 136, ["n:1", "n:2"]), ("m:2", "", 135, ["n:1"]), ("m:3", "", 0, [])] == [
        (one.address, one.node, one.partitions, one.seen_by) for one in found.hazelcast.members
    ]
    other = HazelcastMember("u9", "m:9", 271)
    replies["n:2"] = msgspec.structs.replace(
        replies["n:2"], own_member="m:9", members=(other, HazelcastMember("u1", "m:1", 0))
    )
    split = (
        StatusCollector(Scheduler(), RecordedTransport(), ["r:1"], FailureDetector(), NodeStatistics())
        .collect()
        .hazelcast
    )
    assert (271, 136) == (split.partitions, split.members[0].partitions)
    assert [("f:1", "up", 0.5)] == [(one.address, one.status, one.lease_age_s) for one in found.facades]
    assert "n:2 is not listed by a registry" == found.reason


def test_processes_that_hang_do_not_delay_the_status() -> None:
    """A collection ends in time while a registry and several nodes accept requests and never answer."""
    hanging = threading.Event()

    async def hang(_request: Request) -> Reply:
        await asyncio.to_thread(hanging.wait, 5.0)
        raise AssertionError

    async def answer(_request: Request) -> Reply:
        leases = tuple(LeaseInfo("logging-service", address, True, True, True, 0.1) for address in (hung, also_hung))
        return Leases(leases=leases, members=())

    scheduler = Scheduler()
    pipelines = PipelinedTransport(loop=scheduler)
    transport = WaitingTransport(pipelines, scheduler.wait)
    with serving(hang) as hung, serving(hang) as also_hung, serving(hang) as registry, serving(answer) as answering:
        collector = StatusCollector(scheduler, transport, [registry, answering], FailureDetector(), NodeStatistics())
        collector.collect()  # connects
        began_s = time.perf_counter()
        found = collector.collect()
        took_s = time.perf_counter() - began_s
        hanging.set()
    pipelines.close()

    assert ["down", "down"] == [one.status for one in found.logging_nodes]
    assert took_s < 1.0
