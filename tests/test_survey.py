"""Tests of facade.survey and facade.meter."""

import pytest

from common import ids
from facade.meter import RECENT, Meter
from facade.survey import NodeView, why_not_safe
from tests.test_client import NODES, OTHER_REGISTRY, REGISTRY, World

MEMBERS = ("m:1", "m:2", "m:3")


def view(address: str, *, state: str = "ready", listed: bool = True, members: int = 3) -> NodeView:
    """A node that is well, but for what is given."""
    return NodeView(
        address,
        state,
        listed,
        suspect=False,
        members=members,
        round_trip_ms=1.0,
        served=0,
        errors=0,
        p50_ms=0.0,
        p99_ms=0.0,
    )


WELL = tuple(view(node) for node in NODES)


@pytest.mark.parametrize(
    ("nodes", "answers", "told"),
    [
        (WELL, True, ""),
        (WELL, False, "no registry answers"),
        ((*WELL[:2], view(NODES[2], state="down")), True, f"{NODES[2]} is down"),
        ((*WELL[:2], view(NODES[2], state="behind")), True, f"{NODES[2]} is behind"),
        ((*WELL[:2], view(NODES[2], listed=False)), True, f"{NODES[2]} is not handed out"),
        ((*WELL[:2], view(NODES[2], members=1)), True, "of 3 Hazelcast members the nodes see 1, 3"),
        (tuple(view(node, members=2) for node in NODES), True, "of 3 Hazelcast members the nodes see 2"),
        (tuple(view(node, members=0) for node in NODES), True, "the nodes share one file on one disk"),
        (WELL[:2], True, "there are only 2 logging nodes"),
        ((), True, "there are only 0 logging nodes"),
    ],
)
def test_safe_is_when_any_two_nodes_may_die(nodes: tuple[NodeView, ...], answers: bool, told: str) -> None:
    """Every node serves, and sees every member; else there is a reason why not."""
    assert told == next(why_not_safe(nodes, MEMBERS, registry_answers=answers), "")


def test_a_survey_asks_everyone_and_waits_for_nobody(world: World) -> None:
    """A dead node and a dead registry are told; what the facade asked of each node is counted."""
    world.client.append(ids.new_id(), "a")
    world.transport.kill(NODES[1])
    world.transport.kill(OTHER_REGISTRY)
    found = world.survey.take()

    assert {REGISTRY: True, OTHER_REGISTRY: False} == found.registries
    assert [(NODES[0], "ready", 1), (NODES[1], "down", 0), (NODES[2], "ready", 0)] == [
        (node.address, node.state, node.served) for node in found.logging_nodes
    ]
    assert (False, f"{NODES[1]} is down") == (found.safe, found.reason)
    world.transport.kill(REGISTRY)
    assert (False, "no registry answers", ()) == (
        (gone := world.survey.take()).safe,
        gone.reason,
        gone.logging_nodes,
    )


def test_times_are_those_of_the_last_answers() -> None:
    """The median and the rest, in milliseconds; what was not answered is counted, and has no time."""
    meter = Meter()
    assert 0.0 == meter.seen("a").quantile_ms(0.5)
    for number in range(2 * RECENT):
        meter.note("a", number / 1_000, answered=True)
    meter.note("a", 100.0, answered=False)
    seen = meter.seen("a")

    assert (2 * RECENT, 1) == (seen.served, seen.errors)
    assert (1_500.0, 1_990.0, 1_999.0) == tuple(round(seen.quantile_ms(share), 3) for share in (0.5, 0.99, 1.0))


@pytest.fixture
def world() -> World:
    """A whole system in memory."""
    return World()
