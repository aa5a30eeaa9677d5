"""Tests of facade.status.events: what changed between two statuses of the cluster."""

from typing import Any

import msgspec
import pytest

from facade.status.events import BURST, changes
from facade.status.schema import (
    ClusterStatus,
    HazelcastStatus,
    MemberStatus,
    RequestRateSample,
    ServerStatus,
    StatusEvent,
)
from tests.support.status import FENCED, NODES, TIME, WELL, WITHOUT_FENCED, A, B, C, node_status

REGISTRY = "127.0.0.1:5005"
MEMBERS = ("m:1", "m:2", "m:3")


def member_status(address: str, *seen_by: str, partitions: int = 90) -> MemberStatus:
    """The status of a Hazelcast member that these nodes see."""
    return MemberStatus(address=address, uuid=address, node="", partitions=partitions, seen_by=list(seen_by))


HAZELCAST = HazelcastStatus(partitions=271, entries=0, members=[member_status(address, *NODES) for address in MEMBERS])


def cluster_status(**fields: Any) -> ClusterStatus:
    """The status of a cluster that is well, except for the given fields."""
    well: dict[str, Any] = {
        "safe": True,
        "reason": "any two nodes may die",
        "time": TIME,
        "engine": "hazelcast",
        "registries": [ServerStatus(address=REGISTRY, status="up", since=TIME)],
        "facades": [],
        "messages_nodes": [],
        "logging_nodes": WELL,
        "hazelcast": HAZELCAST,
        "traffic": RequestRateSample(time=TIME, requests_per_s=0.0, p50_ms=None, p99_ms=None),
        "warnings": [],
        "events": [],
    }
    return ClusterStatus(**well | fields)


def hazelcast_status(*members: MemberStatus) -> HazelcastStatus:
    """The status of a map with these members."""
    return HazelcastStatus(partitions=271, entries=0, members=list(members))


ALL_JOINING = [
    node_status(address, state="joining", in_sync=[], term=13) for address in NODES
]  # no node is in an in-sync set
FENCED_TEXT = f"replica {C} is not in the in-sync set any more: records are acknowledged without it"
IN_SYNC_TEXT = "replica {} is in sync: no record is acknowledged without it"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (cluster_status(), cluster_status(), []),
        (
            cluster_status(),
            cluster_status(registries=[ServerStatus(address=REGISTRY, status="down", since=TIME)]),
            [("registry-down", REGISTRY, f"registry {REGISTRY} does not answer")],
        ),
        (
            cluster_status(registries=[ServerStatus(address=REGISTRY, status="down", since=TIME)]),
            cluster_status(),
            [("registry-up", REGISTRY, f"registry {REGISTRY} answers")],
        ),
        (
            cluster_status(),
            cluster_status(
                safe=False,
                reason="x is down",
                logging_nodes=[node_status(NODES[0], status="down", state="down"), *WELL[1:]],
            ),
            [("node-down", NODES[0], f"node {NODES[0]} does not answer"), ("not-safe", "", "x is down")],
        ),
        (
            cluster_status(
                safe=False, reason="x", logging_nodes=[node_status(NODES[0], status="down", state="down"), *WELL[1:]]
            ),
            cluster_status(),
            [("node-up", NODES[0], f"node {NODES[0]} is ready"), ("safe", "", "any two nodes may die")],
        ),
        (
            cluster_status(),
            cluster_status(logging_nodes=[node_status(NODES[0], state="leaving"), *WELL[1:]]),
            [("node-changed", NODES[0], f"node {NODES[0]} is leaving")],
        ),
        (
            cluster_status(),
            cluster_status(logging_nodes=[node_status(NODES[0], status="suspect"), *WELL[1:]]),
            [("node-suspect", NODES[0], f"node {NODES[0]} did not answer its last request")],
        ),
        (
            cluster_status(),
            cluster_status(logging_nodes=WELL[:2]),
            [("node-down", NODES[2], f"node {NODES[2]} has left")],
        ),
        (
            cluster_status(logging_nodes=WELL[:2]),
            cluster_status(),
            [("node-up", NODES[2], f"node {NODES[2]} is ready")],
        ),
        (
            cluster_status(),
            cluster_status(logging_nodes=[node_status(NODES[0], errors=BURST), *WELL[1:]]),
            [("retry-burst", NODES[0], f"5 requests to {NODES[0]} went to another node instead")],
        ),
        (cluster_status(), cluster_status(logging_nodes=[node_status(NODES[0], errors=BURST - 1), *WELL[1:]]), []),
        (
            cluster_status(),
            cluster_status(logging_nodes=[*WITHOUT_FENCED, FENCED]),
            [("node-changed", C, f"node {C} is joining"), ("replica-fenced", C, FENCED_TEXT)],
        ),
        (
            cluster_status(logging_nodes=[*WITHOUT_FENCED, FENCED]),
            cluster_status(),
            [("node-up", C, f"node {C} is ready"), ("replica-in-sync", C, IN_SYNC_TEXT.format(C))],
        ),
        (
            cluster_status(),
            cluster_status(
                logging_nodes=[
                    node_status(A, term=14, in_sync=[A, B]),
                    node_status(B, term=14, in_sync=[A, B]),
                    WELL[2],
                ]
            ),
            [("replica-fenced", C, FENCED_TEXT)],
        ),
        (
            cluster_status(),
            cluster_status(logging_nodes=ALL_JOINING),
            [("node-changed", one, f"node {one} is joining") for one in NODES],
        ),
        (
            cluster_status(logging_nodes=ALL_JOINING),
            cluster_status(),
            [
                *(("node-up", one, f"node {one} is ready") for one in NODES),
                *(("replica-in-sync", one, IN_SYNC_TEXT.format(one)) for one in NODES),
            ],
        ),
        (
            cluster_status(),
            cluster_status(
                hazelcast=hazelcast_status(
                    member_status("m:1", *NODES, partitions=136), member_status("m:2", *NODES, partitions=135)
                )
            ),
            [
                ("member-left", "m:3", "Hazelcast member m:3 left; members now: 2"),
                ("partitions-moved", "", "partitions moved: m:1 90 -> 136, m:2 90 -> 135"),
            ],
        ),
        (
            cluster_status(hazelcast=hazelcast_status(*HAZELCAST.members[:2], member_status("m:3"))),
            cluster_status(),
            [("member-joined", "m:3", "Hazelcast member m:3 joined; members now: 3")],
        ),
    ],
)
def test_changes_are_events(before: ClusterStatus, after: ClusterStatus, expected: list[tuple[str, str, str]]) -> None:
    """Each difference between two statuses is one event, in words, of a kind that the API documents."""
    events = list(changes(before, after))

    assert events == msgspec.convert(msgspec.to_builtins(events), list[StatusEvent])
    assert expected == [(event.kind, event.subject, event.text) for event in events]
