"""Tests of facade.status.safety: why a cluster is not safe."""

import pytest

from facade.status.safety import why_not_safe
from facade.status.schema import NodeStatus
from tests.support.status import FENCED, NODES, WELL, WITHOUT_FENCED, A, B, C, node_status


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        (WELL, []),
        (
            [*WELL[:2], node_status(C, status="down", state="down", in_sync=[], term=0)],
            [f"{C} is down"],
        ),
        (
            [WELL[0], *(node_status(address, status="down", state="down", in_sync=[], term=0) for address in (B, C))],
            [f"{B} and {C} are down"],
        ),
        (
            [*WITHOUT_FENCED, FENCED],
            [f"{C} is joining: this replica was fenced", f"{C} is not listed by a registry"],
        ),
        (
            [node_status(A, state="joining", reason="it takes records"), WELL[1], node_status(C, state="down")],
            [f"{C} is down", f"{A} is joining: it takes records"],
        ),
        ([*WELL[:2], node_status(C, state="starting")], [f"{C} is starting"]),
        (
            [*WELL[:2], node_status(C, reason="nothing can be written: disk full")],
            [f"{C} is ready, but nothing can be written: disk full"],
        ),
        ([*WELL[:2], node_status(C, listed=False)], [f"{C} is not listed by a registry"]),
        (
            [WELL[0], node_status(B, listed=False), node_status(C, listed=False)],
            [f"{B} and {C} are not listed by a registry"],
        ),
        (
            [node_status(A, in_sync=[A, B]), WELL[1], node_status(C, in_sync=[B, C])],
            [f"{A} and {C} are not in sync with each other"],
        ),
        ([*WELL[:2], node_status(C, in_sync=[B, C])], [f"{A} and {C} are not in sync with each other"]),
        (
            [*WELL[:2], node_status(C, in_sync=[])],
            [
                f"{C} is ready and in no in-sync set",
                f"{A} and {C} are not in sync with each other",
                f"{B} and {C} are not in sync with each other",
            ],
        ),
        (
            [*WELL[:2], node_status(C, term=11)],
            [
                f"{A} and {C} report in-sync sets of different terms, 12 and 11",
                f"{B} and {C} report in-sync sets of different terms, 12 and 11",
            ],
        ),
        (
            [node_status(address, in_sync=[*NODES, "10.0.0.9:5002"]) for address in NODES],
            ["10.0.0.9:5002 is in the in-sync set, and no registry names the address"],
        ),
        (
            [node_status(address, in_sync=[A, B]) for address in (A, B)],
            ["there are only 2 logging nodes, and any two may die only of three"],
        ),
        ([node_status(A, in_sync=[A])], ["there is only 1 logging node, and any two may die only of three"]),
        ([], ["no logging node is known"]),
    ],
)
def test_a_cluster_is_safe_if_all_nodes_are_in_sync_with_each_other(
    nodes: list[NodeStatus], expected: list[str]
) -> None:
    """Each reason against it is a sentence, the most important first; a missing registry comes before all others."""
    assert expected == list(why_not_safe(nodes, registry_answers=True))
    assert ["no registry answers", *expected] == list(why_not_safe(nodes, registry_answers=False))
