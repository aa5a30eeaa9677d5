"""Tests of nodes.replication.core.state: version vectors, and what a replica knows about its peers."""

import pytest

from common.protocol.vectors import VectorEntry
from nodes.replication.core.effects import Opened
from nodes.replication.core.machine import DEFAULT
from nodes.replication.core.state import Peer, Replica, Versions, covers, merge, to_wire
from tests.support.nodes.driven_core import INCARNATION, A, B, C, set_of

DEAD = 9  # an incarnation whose process has ended
NOW_S = 100.0


def replica_with(peer: str) -> tuple[Replica, Peer]:
    """Replica B in a set with A and C, and the peer at an address in the incarnation of the set."""
    replica = Replica(B, Opened(INCARNATION[B]), DEFAULT, NOW_S)
    replica.in_sync = set_of(5, A, B, C)
    found = replica.peer_of(peer, INCARNATION[peer])
    replica.members.append(found)
    return replica, found


@pytest.mark.parametrize(
    ("versions", "expected"), [({1: 2, 2: 1}, True), ({1: 3, 2: 1, 3: 1}, True), ({1: 2}, False), ({1: 1, 2: 9}, False)]
)
def test_a_vector_covers_another_if_no_entry_is_lower(versions: Versions, expected: bool) -> None:
    """A missing entry counts as 0, and further origins do not matter."""
    assert expected == covers(versions, {1: 2, 2: 1, 4: 0})


def test_a_merge_only_raises_entries() -> None:
    """Reports may arrive in any order, and an older one takes nothing back."""
    versions = {1: 5, 2: 5}
    merge(versions, [(1, 4), (2, 6), (3, 1)])

    assert {1: 5, 2: 6, 3: 1} == versions


def test_a_message_may_carry_a_part_of_a_vector() -> None:
    """Only the chosen entries are sent, and an origin without an entry is left out."""
    assert (VectorEntry(1, 5), VectorEntry(2, 6)) == to_wire({1: 5, 2: 6})
    assert (VectorEntry(2, 6),) == to_wire({1: 5, 2: 6}, [2, 3])


def test_a_member_that_answers_in_time_is_no_suspect() -> None:
    """The oldest unanswered request counts, and `confirm_s` is the longest wait."""
    replica, peer = replica_with(A)
    assert not replica.suspects(peer)
    peer.unanswered = {1: NOW_S, 2: NOW_S + 1.0}
    replica.now_s = NOW_S + DEFAULT.confirm_s
    assert not replica.suspects(peer)
    replica.now_s += 0.01

    assert replica.suspects(peer)


@pytest.mark.parametrize("change", ["disconnected", "left", "restarted", "failing"])
def test_a_member_that_cannot_confirm_is_a_suspect(change: str) -> None:
    """It is one at once, except that failed answers count from the first of them."""
    replica, peer = replica_with(A)
    peer.connected = change != "disconnected"
    peer.left = change == "left"
    if change == "restarted":
        peer.restarted(99)
    if change == "failing":
        peer.failed_s = NOW_S - DEFAULT.confirm_s - 0.01

    assert replica.suspects(peer)


def test_another_process_at_an_address_starts_without_reports() -> None:
    """It may have lost its disk, so what the former process reported is void; the same process keeps its reports."""
    replica, peer = replica_with(A)
    peer.vector, peer.sent, peer.complete = {DEAD: 3}, {DEAD: 3}, True
    assert {DEAD: 3} == replica.peer_of(A, INCARNATION[A]).vector

    assert peer is replica.peer_of(A, 99)
    assert (99, {}, {}, False) == (peer.incarnation, peer.vector, peer.sent, peer.complete)


def test_a_member_gets_only_the_old_records_from_its_peers() -> None:
    """Each live member sends its own records, so a peer needs help with the records of dead incarnations only."""
    replica, peer = replica_with(A)
    replica.vector = {INCARNATION[B]: 4, INCARNATION[C]: 5, DEAD: 3, 8: 2}
    peer.vector = {8: 2}
    replica.add_missing_origins(peer)

    assert {DEAD} == peer.origins
