"""Tests of facade.survey, facade.events, facade.watch and facade.meter."""

import asyncio
import threading
import time
from typing import Any

import msgspec
import pytest

from common import ids
from common.codec import Reply, Request
from common.inspection import Called, Inspect, Lease, Member, Report
from common.pool import ZmqTransport
from common.wire import State
from facade.events import BURST, changes
from facade.meter import RECENT, LookedUp, Meter
from facade.routing import Suspects
from facade.survey import Survey, why_not_safe
from facade.view import ClusterView, EventView, HazelcastView, MemberView, NodeView, ServerView, TrafficView
from facade.watch import EVENTS, Watch
from tests.support import serving
from tests.test_client import MESSAGES, NODES, OTHER_REGISTRY, REGISTRY, World

TIME = "2026-11-24T08:00:00.000Z"
MEMBERS = ("m:1", "m:2", "m:3")


def node(address: str, **different: Any) -> NodeView:
    """A node that is well, but for what is given."""
    well: dict[str, Any] = {"status": "up", "state": "ready", "listed": True, "since": TIME}
    return NodeView(address=address, **well | different)


def member(address: str, *seen_by: str, partitions: int = 90) -> MemberView:
    """A member as these nodes see it."""
    return MemberView(address=address, uuid=address, node="", partitions=partitions, seen_by=list(seen_by))


WELL = [node(address) for address in NODES]
SEEN = HazelcastView(partitions=271, entries=0, members=[member(address, *NODES) for address in MEMBERS])


def whole(**different: Any) -> ClusterView:
    """A cluster that is well, but for what is given."""
    well: dict[str, Any] = {
        "safe": True,
        "reason": "any two nodes may die",
        "time": TIME,
        "engine": "hazelcast",
        "registries": [ServerView(address=REGISTRY, status="up", since=TIME)],
        "facades": [],
        "messages_nodes": [],
        "logging_nodes": WELL,
        "hazelcast": SEEN,
        "traffic": TrafficView(time=TIME, requests_per_s=0.0, p50_ms=None, p99_ms=None),
        "warnings": [],
        "events": [],
    }
    return ClusterView(**well | different)


def seen_as(*members: MemberView) -> HazelcastView:
    """A map with these members."""
    return HazelcastView(partitions=271, entries=0, members=list(members))


@pytest.mark.parametrize(
    ("nodes", "hazelcast", "answers", "told"),
    [
        (WELL, SEEN, True, ""),
        (WELL, SEEN, False, "no registry answers"),
        ([*WELL[:2], node(NODES[2], state="down")], SEEN, True, f"{NODES[2]} is down"),
        ([*WELL[:2], node(NODES[2], state="behind")], SEEN, True, f"{NODES[2]} is behind"),
        ([*WELL[:2], node(NODES[2], listed=False)], SEEN, True, f"{NODES[2]} is not handed out"),
        (
            WELL,
            seen_as(member("m:1", *NODES), member("m:2", NODES[0])),
            True,
            "not every node sees the Hazelcast member m:2",
        ),
        (WELL, seen_as(), True, "the nodes share one file on one disk"),
        (WELL[:2], SEEN, True, "there are only 2 logging nodes"),
        ([], SEEN, True, "there are only 0 logging nodes"),
    ],
)
def test_safe_is_when_any_two_nodes_may_die(
    nodes: list[NodeView], hazelcast: HazelcastView, answers: bool, told: str
) -> None:
    """Every node serves, and sees every member; else there is a reason why not."""
    engine = "hazelcast" if hazelcast.members else "embedded"
    assert told == next(why_not_safe(nodes, hazelcast, engine=engine, registry_answers=answers), "")


def test_a_survey_asks_everyone_and_waits_for_nobody(world: World) -> None:
    """A dead node and a dead registry are told; what the facade asked of each node is counted."""
    world.client.append(ids.new_id(), "a")
    world.transport.kill(NODES[1])
    world.transport.kill(OTHER_REGISTRY)
    found = world.watch.look(fresh_s=-1).view

    assert [(REGISTRY, "up"), (OTHER_REGISTRY, "down")] == [(one.address, one.status) for one in found.registries]
    assert [(NODES[0], "up", "ready", 1), (NODES[1], "down", "down", 0), (NODES[2], "up", "ready", 0)] == [
        (one.address, one.status, one.state, one.served) for one in found.logging_nodes
    ]
    assert [(MESSAGES, "up")] == [(one.address, one.status) for one in found.messages_nodes]
    assert (False, f"{NODES[1]} is down", "memory") == (found.safe, found.reason, found.engine)
    assert {"0.1.0"} == {one.version for one in found.logging_nodes if one.status == "up"}
    world.transport.kill(REGISTRY)
    gone = world.watch.look(fresh_s=-1).view
    assert (False, "no registry answers") == (gone.safe, gone.reason)
    assert [*NODES] == [one.address for one in gone.logging_nodes]


def test_a_suspect_is_told_as_one(world: World) -> None:
    """A node that did not answer a request, but answers now, is up for nobody yet."""
    world.suspects.add(NODES[0])

    assert ["suspect", "up", "up"] == [one.status for one in world.watch.look().view.logging_nodes]


def test_a_view_is_made_of_what_nodes_and_registries_say() -> None:
    """Leases, members with their partitions and who sees them, and what lies on the disks."""
    seen = (Member("u1", "m:1", 136), Member("u2", "m:2", 135))
    said: dict[str, Called | Report] = {
        "r:1": Called(
            leases=(
                Lease("logging-service", "n:1", True, True, True, 0.24, 2),
                Lease("logging-service", "n:2", False, True, False, 1.0, 1),
                Lease("facade", "f:1", True, True, False, 0.5, 0),
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

    found = Survey(Canned(), ["r:1"], Suspects(), Meter(), own="f:1").take()

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
    other = Member("u9", "m:9", 271)
    said["n:2"] = msgspec.structs.replace(said["n:2"], own_member="m:9", members=(other, Member("u1", "m:1", 0)))
    split = Survey(Canned(), ["r:1"], Suspects(), Meter()).take().hazelcast
    assert (271, 136) == (split.partitions, split.members[0].partitions)
    assert [("f:1", "up", 0.5)] == [(one.address, one.status, one.lease_age_s) for one in found.facades]
    assert "n:2 is not handed out" == found.reason


def test_a_survey_is_there_in_time_whoever_hangs() -> None:
    """A registry, a node and half of the servers that take requests and never answer: 500 ms for the whole."""
    hanging = threading.Event()

    async def hang(_request: Request) -> Reply:
        await asyncio.to_thread(hanging.wait, 5.0)
        raise AssertionError

    async def answer(_request: Request) -> Reply:
        leases = tuple(Lease("logging-service", address, True, True, True, 0.1, 0) for address in (silent, other))
        return Called(leases=leases, members=())

    transport = ZmqTransport()
    with serving(hang) as silent, serving(hang) as other, serving(hang) as registry, serving(answer) as good:
        survey = Survey(transport, [registry, good], Suspects(), Meter())
        survey.take()  # connects
        began = time.perf_counter()
        found = survey.take()
        took_s = time.perf_counter() - began
        hanging.set()
    transport.close()

    assert ["down", "down"] == [one.status for one in found.logging_nodes]
    assert took_s < 0.5


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (whole(), whole(), []),
        (
            whole(),
            whole(registries=[ServerView(address=REGISTRY, status="down", since=TIME)]),
            [("registry-silent", REGISTRY, f"registry {REGISTRY} does not answer")],
        ),
        (
            whole(registries=[ServerView(address=REGISTRY, status="down", since=TIME)]),
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
            whole(logging_nodes=[node(NODES[0], state="behind"), *WELL[1:]]),
            [("node-changed", NODES[0], f"node {NODES[0]} is behind")],
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
            whole(logging_nodes=[node(NODES[0], listed=False), *WELL[1:]]),
            [
                (
                    "view-fenced",
                    NODES[0],
                    f"{NODES[0]} answers, but the registry does not hand it out: it sees a smaller part of the cluster",
                )
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
def test_changes_are_told(before: ClusterView, after: ClusterView, told: list[tuple[str, str, str]]) -> None:
    """Each difference between two looks is one event, in words, of a kind that the API's description has."""
    events = list(changes(before, after))

    assert events == msgspec.convert(msgspec.to_builtins(events), list[EventView])
    assert told == [(event.kind, event.subject, event.text) for event in events]


def test_a_watch_remembers_what_changed_and_shows_a_fresh_look_again(world: World) -> None:
    """The events stand newest first; the entity tag is the same as long as nothing happened."""
    now_s = [0.0]
    watch = Watch(Survey(world.transport, [REGISTRY], world.suspects, world.meter), clock=lambda: now_s[0])
    first = watch.look()
    assert first is watch.look()
    now_s[0] = 1.0
    again = watch.look()
    assert first is not again
    assert first.etag == again.etag
    world.transport.kill(NODES[1])
    now_s[0] = 2.0
    worse = watch.look()
    assert worse.etag != first.etag
    assert ["not-safe", "node-down"] == [event.kind for event in worse.view.events]
    for number in range(EVENTS):
        (world.transport.revive if number % 2 == 0 else world.transport.kill)(NODES[1])
        watch.look(fresh_s=-1)
    assert EVENTS == len(watch.look(fresh_s=-1).view.events)


def test_times_are_those_of_the_last_answers() -> None:
    """The median and the rest, in milliseconds; what was not answered is counted by reason, and has no time."""
    meter = Meter()
    assert 0.0 == meter.seen("a").quantile_ms(0.5)
    for number in range(2 * RECENT):
        meter.note("a", number / 1_000)
    meter.note("a", 100.0, "timedout")
    meter.note_lookup(LookedUp.STALE)
    seen = meter.seen("a")

    assert (2 * RECENT, 1, {"timedout": 1}) == (seen.served, seen.errors, seen.failures)
    assert (1_500.0, 1_990.0, 1_999.0) == tuple(round(seen.quantile_ms(share), 3) for share in (0.5, 0.99, 1.0))
    assert {"answered": 0, "stale": 1, "failed": 0} == meter.lookups()


@pytest.fixture
def world() -> World:
    """A whole system in memory."""
    return World()
