"""Tests of facade.status.survey, facade.status.safety, facade.status.events, facade.status.monitor and facade.meter."""

import asyncio
import threading
import time
from typing import Any

import msgspec
import pytest

from common import VERSION
from common.discovery.lookup import LookupOutcome
from common.protocol.admin import HazelcastMember, Inspect, LeaseInfo, Leases, ListLeases, Report
from common.protocol.codec import Reply, Request
from common.protocol.messages import State
from common.rpc.handler import Handler
from common.rpc.memory import MemoryTransport
from common.rpc.pipelined import PipelinedTransport, WaitingTransport
from facade.client.failure_detector import FailureDetector
from facade.client.node_statistics import RECENT_ANSWERS, NodeStatistics
from facade.server.scheduler import Scheduler
from facade.status.collector import StatusCollector
from facade.status.events import BURST, changes
from facade.status.monitor import EVENTS, StatusMonitor
from facade.status.safety import why_not_safe
from facade.status.schema import (
    ClusterStatus,
    HazelcastStatus,
    MemberStatus,
    NodeStatus,
    RequestRateSample,
    ServerStatus,
    StatusEvent,
)
from tests.support.servers import serving

NODES = ("127.0.0.1:5002", "127.0.0.1:5003", "127.0.0.1:5004")
REGISTRY, OTHER_REGISTRY, MESSAGES = "127.0.0.1:5005", "127.0.0.1:5105", "127.0.0.1:5001"
TERM = 12
TIME = "2026-11-24T08:00:00.000Z"
MEMBERS = ("m:1", "m:2", "m:3")


def node(address: str, **different: Any) -> NodeStatus:
    """A node that is well, but for what is given."""
    well: dict[str, Any] = {
        "status": "up",
        "state": "ready",
        "listed": True,
        "since": TIME,
        "term": TERM,
        "in_sync": list(NODES),
    }
    return NodeStatus(address=address, **well | different)


def member(address: str, *seen_by: str, partitions: int = 90) -> MemberStatus:
    """A member as these nodes see it."""
    return MemberStatus(address=address, uuid=address, node="", partitions=partitions, seen_by=list(seen_by))


WELL = [node(address) for address in NODES]
SEEN = HazelcastStatus(partitions=271, entries=0, members=[member(address, *NODES) for address in MEMBERS])


def whole(**different: Any) -> ClusterStatus:
    """A cluster that is well, but for what is given."""
    well: dict[str, Any] = {
        "safe": True,
        "reason": "any two nodes may die",
        "time": TIME,
        "engine": "hazelcast",
        "registries": [ServerStatus(address=REGISTRY, status="up", since=TIME)],
        "facades": [],
        "messages_nodes": [],
        "logging_nodes": WELL,
        "hazelcast": SEEN,
        "traffic": RequestRateSample(time=TIME, requests_per_s=0.0, p50_ms=None, p99_ms=None),
        "warnings": [],
        "events": [],
    }
    return ClusterStatus(**well | different)


def seen_as(*members: MemberStatus) -> HazelcastStatus:
    """A map with these members."""
    return HazelcastStatus(partitions=271, entries=0, members=list(members))


A, B, C = NODES
FENCED = node(C, state="joining", reason="this replica was fenced", listed=False, in_sync=[], term=13)
AMONG_TWO = [node(address, in_sync=[A, B], term=13) for address in (A, B)]


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        (WELL, []),
        (
            [*WELL[:2], node(C, status="down", state="down", in_sync=[], term=0)],
            [f"{C} is down"],
        ),
        (
            [WELL[0], *(node(address, status="down", state="down", in_sync=[], term=0) for address in (B, C))],
            [f"{B} and {C} are down"],
        ),
        (
            [*AMONG_TWO, FENCED],
            [f"{C} is joining: this replica was fenced", f"{C} is not listed by a registry"],
        ),
        (
            [node(A, state="joining", reason="it takes records"), WELL[1], node(C, state="down")],
            [f"{C} is down", f"{A} is joining: it takes records"],
        ),
        ([*WELL[:2], node(C, state="starting")], [f"{C} is starting"]),
        (
            [*WELL[:2], node(C, reason="nothing can be written: disk full")],
            [f"{C} is ready, but nothing can be written: disk full"],
        ),
        ([*WELL[:2], node(C, listed=False)], [f"{C} is not listed by a registry"]),
        (
            [WELL[0], node(B, listed=False), node(C, listed=False)],
            [f"{B} and {C} are not listed by a registry"],
        ),
        (
            [node(A, in_sync=[A, B]), WELL[1], node(C, in_sync=[B, C])],
            [f"{A} and {C} are not in sync with each other"],
        ),
        ([*WELL[:2], node(C, in_sync=[B, C])], [f"{A} and {C} are not in sync with each other"]),
        (
            [*WELL[:2], node(C, in_sync=[])],
            [
                f"{C} is ready and in no in-sync set",
                f"{A} and {C} are not in sync with each other",
                f"{B} and {C} are not in sync with each other",
            ],
        ),
        (
            [*WELL[:2], node(C, term=11)],
            [
                f"{A} and {C} report in-sync sets of different terms, 12 and 11",
                f"{B} and {C} report in-sync sets of different terms, 12 and 11",
            ],
        ),
        (
            [node(address, in_sync=[*NODES, "10.0.0.9:5002"]) for address in NODES],
            ["10.0.0.9:5002 is in the in-sync set, and no registry names the address"],
        ),
        (
            [node(address, in_sync=[A, B]) for address in (A, B)],
            ["there are only 2 logging nodes, and any two may die only of three"],
        ),
        ([node(A, in_sync=[A])], ["there is only 1 logging node, and any two may die only of three"]),
        ([], ["no logging node is known"]),
    ],
)
def test_safe_is_when_every_two_nodes_are_in_sync(nodes: list[NodeStatus], expected: list[str]) -> None:
    """Every reason why not is a sentence, the weightiest first; without a registry that answers, that is the first."""
    assert expected == list(why_not_safe(nodes, registry_answers=True))
    assert ["no registry answers", *expected] == list(why_not_safe(nodes, registry_answers=False))


class InMemory:
    """A cluster of which each server answers what a test says, over the in-memory transport.

    Attributes:
        reports: what each logging node says of itself.
        called: what both registries say.
    """

    def __init__(self) -> None:
        leases = [LeaseInfo("logging-service", address, True, True, True, 0.1) for address in NODES]
        leases.append(LeaseInfo("messages-service", MESSAGES, True, True, True, 0.1))
        self.called = Leases(leases=tuple(leases), members=())
        self.reports = {address: replica_report() for address in NODES}
        handlers = {address: self._node(address) for address in NODES}
        handlers |= {REGISTRY: self._registry, OTHER_REGISTRY: self._registry, MESSAGES: self._messages}
        self.transport = MemoryTransport(handlers)
        self.suspects = FailureDetector()
        self.meter = NodeStatistics()
        self.survey = StatusCollector(
            Scheduler(), self.transport, [REGISTRY, OTHER_REGISTRY], self.suspects, self.meter
        )

    def _node(self, address: str) -> Handler:
        async def answer(_request: Request) -> Reply:
            return self.reports[address]

        return answer

    async def _registry(self, request: Request) -> Reply:
        return self.called if isinstance(request, ListLeases) else Report(service="registry", state=State.READY)

    async def _messages(self, _request: Request) -> Reply:
        return Report(service="messages-service", state=State.READY)


def replica_report(**different: Any) -> Report:
    """What a logging node without Hazelcast says when it is in sync with the others, but for what is given."""
    well: dict[str, Any] = {"state": State.READY, "engine": "embedded", "term": TERM, "in_sync": NODES}
    return Report(service="logging-service", **well | different)


@pytest.fixture
def cluster() -> InMemory:
    """A cluster in memory that is well."""
    return InMemory()


def test_a_cluster_without_hazelcast_is_safe(cluster: InMemory) -> None:
    """Each node has its own journal: the same rules hold for both engines."""
    found = cluster.survey.collect()

    assert (True, "any two nodes may die", "embedded") == (found.safe, found.reason, found.engine)
    assert [(TERM, [*NODES], 0, "")] * 3 == [
        (one.term, one.in_sync, one.unconfirmed, one.reason) for one in found.logging_nodes
    ]


def test_a_survey_asks_everyone_and_waits_for_nobody(cluster: InMemory) -> None:
    """A dead node and a dead registry are down; what the facade asked of each node is counted."""
    cluster.meter.record(NODES[0], 0.001)
    cluster.transport.kill(NODES[1])
    cluster.transport.kill(OTHER_REGISTRY)
    found = cluster.survey.collect()

    assert [(REGISTRY, "up"), (OTHER_REGISTRY, "down")] == [(one.address, one.status) for one in found.registries]
    assert [(NODES[0], "up", "ready", 1), (NODES[1], "down", "down", 0), (NODES[2], "up", "ready", 0)] == [
        (one.address, one.status, one.state, one.served) for one in found.logging_nodes
    ]
    assert [(MESSAGES, "up")] == [(one.address, one.status) for one in found.messages_nodes]
    assert (False, f"{NODES[1]} is down", "embedded") == (found.safe, found.reason, found.engine)
    assert {VERSION} == {one.version for one in found.logging_nodes if one.status == "up"}
    cluster.transport.kill(REGISTRY)
    gone = cluster.survey.collect()
    assert (False, "no registry answers") == (gone.safe, gone.reason)
    assert [*NODES] == [one.address for one in gone.logging_nodes]


def test_a_replica_that_was_fenced_is_shown_with_its_reason(cluster: InMemory) -> None:
    """What it says of itself is in the view: state, reason, and what nobody has confirmed."""
    reason = "this replica was fenced"
    cluster.reports[C] = replica_report(state=State.JOINING, in_sync=(), term=13, reason=reason, unconfirmed=7)
    found = cluster.survey.collect()

    assert (False, f"{C} is joining: {reason}") == (found.safe, found.reason)
    fenced = found.logging_nodes[2]
    assert ("joining", reason, 13, [], 7) == (
        *(fenced.state, fenced.reason, fenced.term, fenced.in_sync, fenced.unconfirmed),
    )


def test_a_suspect_is_shown_as_one(cluster: InMemory) -> None:
    """A node that did not answer a request, but answers now, is a suspect until it answers a request again."""
    cluster.suspects.suspect(NODES[0])

    assert ["suspect", "up", "up"] == [one.status for one in cluster.survey.collect().logging_nodes]


def test_a_view_is_made_of_what_nodes_and_registries_say() -> None:
    """Leases, members with their partitions and who sees them, and what lies on the disks."""
    seen = (HazelcastMember("u1", "m:1", 136), HazelcastMember("u2", "m:2", 135))
    said: dict[str, Leases | Report] = {
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

    class Canned:
        def call(self, address: str, request: Request, *, timeout_s: float) -> Reply:
            del timeout_s
            return said["n:2"] if address == "r:1" and isinstance(request, Inspect) else said[address]

    found = StatusCollector(Scheduler(), Canned(), ["r:1"], FailureDetector(), NodeStatistics(), own="f:1").collect()

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
    said["n:2"] = msgspec.structs.replace(
        said["n:2"], own_member="m:9", members=(other, HazelcastMember("u1", "m:1", 0))
    )
    split = StatusCollector(Scheduler(), Canned(), ["r:1"], FailureDetector(), NodeStatistics()).collect().hazelcast
    assert (271, 136) == (split.partitions, split.members[0].partitions)
    assert [("f:1", "up", 0.5)] == [(one.address, one.status, one.lease_age_s) for one in found.facades]
    assert "n:2 is not listed by a registry" == found.reason


def test_a_survey_is_there_in_time_whoever_hangs() -> None:
    """A registry, a node and half of the servers that take requests and never answer: 500 ms for the whole."""
    hanging = threading.Event()

    async def hang(_request: Request) -> Reply:
        await asyncio.to_thread(hanging.wait, 5.0)
        raise AssertionError

    async def answer(_request: Request) -> Reply:
        leases = tuple(LeaseInfo("logging-service", address, True, True, True, 0.1) for address in (silent, other))
        return Leases(leases=leases, members=())

    scheduler = Scheduler()
    pipelines = PipelinedTransport(loop=scheduler)
    transport = WaitingTransport(pipelines, scheduler.wait)
    with serving(hang) as silent, serving(hang) as other, serving(hang) as registry, serving(answer) as good:
        survey = StatusCollector(scheduler, transport, [registry, good], FailureDetector(), NodeStatistics())
        survey.collect()  # connects
        began = time.perf_counter()
        found = survey.collect()
        took_s = time.perf_counter() - began
        hanging.set()
    pipelines.close()

    assert ["down", "down"] == [one.status for one in found.logging_nodes]
    assert took_s < 0.5


NOBODY = [node(address, state="joining", in_sync=[], term=13) for address in NODES]  # is in an in-sync set
FENCED_TEXT = f"replica {C} is not in the in-sync set any more: records are acknowledged without it"
IN_SYNC_TEXT = "replica {} is in sync: no record is acknowledged without it"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (whole(), whole(), []),
        (
            whole(),
            whole(registries=[ServerStatus(address=REGISTRY, status="down", since=TIME)]),
            [("registry-silent", REGISTRY, f"registry {REGISTRY} does not answer")],
        ),
        (
            whole(registries=[ServerStatus(address=REGISTRY, status="down", since=TIME)]),
            whole(),
            [("registry-up", REGISTRY, f"registry {REGISTRY} answers")],
        ),
        (
            whole(),
            whole(
                safe=False, reason="x is down", logging_nodes=[node(NODES[0], status="down", state="down"), *WELL[1:]]
            ),
            [("node-down", NODES[0], f"node {NODES[0]} does not answer"), ("not-safe", "", "x is down")],
        ),
        (
            whole(safe=False, reason="x", logging_nodes=[node(NODES[0], status="down", state="down"), *WELL[1:]]),
            whole(),
            [("node-up", NODES[0], f"node {NODES[0]} is ready"), ("safe", "", "any two nodes may die")],
        ),
        (
            whole(),
            whole(logging_nodes=[node(NODES[0], state="leaving"), *WELL[1:]]),
            [("node-changed", NODES[0], f"node {NODES[0]} is leaving")],
        ),
        (
            whole(),
            whole(logging_nodes=[node(NODES[0], status="suspect"), *WELL[1:]]),
            [("node-suspect", NODES[0], f"node {NODES[0]} did not answer a request lately")],
        ),
        (whole(), whole(logging_nodes=WELL[:2]), [("node-down", NODES[2], f"node {NODES[2]} has left")]),
        (
            whole(logging_nodes=WELL[:2]),
            whole(),
            [("node-up", NODES[2], f"node {NODES[2]} is ready")],
        ),
        (
            whole(),
            whole(logging_nodes=[node(NODES[0], errors=BURST), *WELL[1:]]),
            [("fallback-burst", NODES[0], f"5 requests to {NODES[0]} went to another node instead")],
        ),
        (whole(), whole(logging_nodes=[node(NODES[0], errors=BURST - 1), *WELL[1:]]), []),
        (
            whole(),
            whole(logging_nodes=[*AMONG_TWO, FENCED]),
            [("node-changed", C, f"node {C} is joining"), ("replica-fenced", C, FENCED_TEXT)],
        ),
        (
            whole(logging_nodes=[*AMONG_TWO, FENCED]),
            whole(),
            [("node-up", C, f"node {C} is ready"), ("replica-in-sync", C, IN_SYNC_TEXT.format(C))],
        ),
        (
            whole(),
            whole(logging_nodes=[node(A, term=14, in_sync=[A, B]), node(B, term=14, in_sync=[A, B]), WELL[2]]),
            [("replica-fenced", C, FENCED_TEXT)],
        ),
        (whole(), whole(logging_nodes=NOBODY), [("node-changed", one, f"node {one} is joining") for one in NODES]),
        (
            whole(logging_nodes=NOBODY),
            whole(),
            [
                *(("node-up", one, f"node {one} is ready") for one in NODES),
                *(("replica-in-sync", one, IN_SYNC_TEXT.format(one)) for one in NODES),
            ],
        ),
        (
            whole(),
            whole(hazelcast=seen_as(member("m:1", *NODES, partitions=136), member("m:2", *NODES, partitions=135))),
            [
                ("member-left", "m:3", "Hazelcast member m:3 left; members now: 2"),
                ("partitions-moved", "", "partitions moved: m:1 90 -> 136, m:2 90 -> 135"),
            ],
        ),
        (
            whole(hazelcast=seen_as(*SEEN.members[:2], member("m:3"))),
            whole(),
            [("member-joined", "m:3", "Hazelcast member m:3 joined; members now: 3")],
        ),
    ],
)
def test_changes_are_events(before: ClusterStatus, after: ClusterStatus, expected: list[tuple[str, str, str]]) -> None:
    """Each difference between two looks is one event, in words, of a kind that the API's description has."""
    events = list(changes(before, after))

    assert events == msgspec.convert(msgspec.to_builtins(events), list[StatusEvent])
    assert expected == [(event.kind, event.subject, event.text) for event in events]


def test_a_watch_remembers_what_changed_and_shows_a_fresh_look_again(cluster: InMemory) -> None:
    """The newest event is first."""
    now_s = [0.0]
    watch = StatusMonitor(cluster.survey, clock=lambda: now_s[0])
    first = watch.status()
    assert first is watch.status()
    now_s[0] = 1.0
    again = watch.status()
    assert first is not again
    cluster.transport.kill(NODES[1])
    now_s[0] = 2.0
    worse = watch.status()
    assert ["not-safe", "node-down"] == [event.kind for event in worse.events]
    for number in range(EVENTS):
        (cluster.transport.revive if number % 2 == 0 else cluster.transport.kill)(NODES[1])
        watch.status(max_age_s=-1)
    assert EVENTS == len(watch.status(max_age_s=-1).events)


def test_times_are_those_of_the_last_answers() -> None:
    """The median and the rest, in milliseconds; what was not answered is counted by reason, and has no time."""
    meter = NodeStatistics()
    assert 0.0 == meter.of("a").quantile_ms(0.5)
    for number in range(2 * RECENT_ANSWERS):
        meter.record("a", number / 1_000)
    meter.record("a", 100.0, "timedout")
    meter.record_lookup(LookupOutcome.STALE)
    seen = meter.of("a")

    assert (2 * RECENT_ANSWERS, 1, {"timedout": 1}) == (seen.answers, seen.errors, seen.failures)
    assert (1_500.0, 1_990.0, 1_999.0) == tuple(round(seen.quantile_ms(share), 3) for share in (0.5, 0.99, 1.0))
    assert {"answered": 0, "stale": 1, "failed": 0} == meter.lookups()
