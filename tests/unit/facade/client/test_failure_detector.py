"""Tests of facade.client.failure_detector."""

from common import ids
from common.protocol.content import Entry
from facade.client import failure_detector
from facade.client.failure_detector import FailureDetector
from tests.support.facade import NODES, MemorySystem


def test_suspects_are_tried_last_until_they_answer() -> None:
    """Suspects keep their order behind the other addresses; `suspect` and `clear` return True for a change."""
    detector = FailureDetector()

    assert [True, False] == [detector.suspect("a"), detector.suspect("a")]
    assert ["b", "c", "a"] == detector.suspects_last(["a", "b", "c"])
    assert [True, False] == [detector.clear("a"), detector.clear("a")]
    assert ["a", "b", "c"] == detector.suspects_last(["a", "b", "c"])


def test_a_hung_node_costs_only_one_timeout_until_it_answers_a_probe(system: MemorySystem) -> None:
    """The first request waits for the hung node; later ones try it last, until a probe clears it."""
    system.transport.hang(NODES[0])
    system.client.append(Entry(ids.new_id(), "a"))
    assert 1.0 == system.now_s
    for _ in range(10):
        assert NODES[1] == system.client.append(Entry(ids.new_id(), "b")).node
    assert 1.0 == system.now_s

    failure_detector.probe_suspects(system.transport, system.detector)
    assert (NODES[0],) == system.detector.suspects()
    system.transport.revive(NODES[0])
    failure_detector.probe_suspects(system.transport, system.detector)
    assert () == system.detector.suspects()
    assert NODES[0] == system.client.append(Entry(ids.new_id(), "c")).node
