"""Tests of nodes.replication.core.joining: when a joiner is admitted, and when it is listed."""

from common.protocol.replication import Admit, Bootstrap, Fence, Join, Renew, Renewed, Standing
from nodes.replication.core.effects import Opened, Send
from nodes.replication.core.machine import DEFAULT
from tests.support.nodes.core_schedules import admitted, asks_to_be_listed
from tests.support.nodes.driven_core import INCARNATION, NEVER_S, A, B, C, DrivenCore, set_of


def test_a_joiner_asks_one_replica_for_records_and_all_for_their_state() -> None:
    """A joiner sends Join with its vector to all listed replicas, and asks one of them for records."""
    driven = DrivenCore()
    driven.registry_renews(set_of(4, A, C), standing=Standing.OUTSIDE)
    driven.after(0.3)
    requests = [send for send in driven.effects_of(Send) if isinstance(send.message, Join)]

    assert [A, C] == sorted(send.address for send in requests)
    assert 1 == sum(send.message.wants_records for send in requests if isinstance(send.message, Join))


def test_a_joiner_waits_until_each_listed_replica_counts_it_in() -> None:
    """A listed replica that has not stored the new set yet acknowledges records without the joiner."""
    driven = admitted()
    driven.beats(A, driven.core.in_sync)
    driven.beats(C, set_of(4, A, C))
    assert not asks_to_be_listed(driven)
    driven.beats(C, driven.core.in_sync)

    assert asks_to_be_listed(driven)


def test_a_joiner_is_admitted_when_it_has_nearly_everything() -> None:
    """A joiner is admitted once it lacks at most `join_lag` records."""
    driven = DrivenCore.in_sync()
    driven.registry_renews(set_of(6, B, C))
    for _ in range(DEFAULT.join_lag // 1_000 + 1):
        driven.replicates(C, term=6, origin=C, after=driven.core.replica.vector.get(3, 0), upto=_next(driven))
    driven.after(DEFAULT.hold_down_s + 0.01)
    driven.peers_answer()
    driven.joins(A)
    driven.after(0.01)
    assert [] == driven.asked_registries(Admit)
    driven.joins(A, has={C: 1_500})
    driven.after(0.01)

    assert 1 == len(driven.asked_registries(Admit))


def _next(driven: DrivenCore) -> int:
    return driven.core.replica.vector.get(INCARNATION[C], 0) + 1_000


def test_a_replica_that_is_fenced_repeatedly_is_admitted_later_each_time() -> None:
    """The wait doubles, so that a replica with a slow disk does not slow the others for long."""
    driven = DrivenCore.in_sync()
    waits_s = []
    for term in (6, 8, 10):
        driven.registry_renews(set_of(term, B, C))
        waits_s.append(_admitted_after_s(driven))
        driven.registry_renews(set_of(term + 1, A, B, C))

    assert waits_s == sorted(waits_s)
    assert waits_s[2] > 3 * waits_s[0] > 0


def _admitted_after_s(driven: DrivenCore) -> float:
    """Seconds for which A has to ask until B asks the registry to admit it."""
    driven.peers_answer()
    driven.clear_effects()
    began_s = driven.now_s
    while not driven.asked_registries(Admit):
        assert driven.now_s - began_s < DEFAULT.hold_down_max_s
        driven.joins(A)
        driven.beats(C, driven.core.in_sync)
        driven.peers_answer()
        driven.after(0.05)
    asked = driven.asked_registries(Admit)[-1]
    reply = Renewed(registry=1, standing=Standing.LISTED, in_sync=driven.core.in_sync, live=(B, C))
    driven.core.registry_answered(asked.message, reply, driven.now_s, renewed_s=NEVER_S)
    return driven.now_s - began_s


def test_the_only_member_of_the_last_set_founds_a_set_at_once() -> None:
    """Nothing was acknowledged without a replica whose last stored set had no other member."""
    driven = DrivenCore(opened=Opened(INCARNATION[B], {}, set_of(7, B)))
    driven.registry_renews(set_of(7), standing=Standing.OUTSIDE)
    driven.after(0.3)

    assert 1 == len(driven.asked_registries(Bootstrap))


def test_a_replica_waits_for_the_other_members_of_its_last_set() -> None:
    """It waits for `assemble_s` before it founds a set, since they may have acknowledged what it lacks."""
    driven = DrivenCore(opened=Opened(INCARNATION[B], {}, set_of(7, A, B)))
    for _ in range(int(DEFAULT.assemble_s) - 1):
        driven.registry_renews(set_of(7), standing=Standing.OUTSIDE)
        driven.after(1.0)
    assert [] == driven.asked_registries(Bootstrap)
    driven.registry_renews(set_of(7), standing=Standing.OUTSIDE)
    driven.after(1.1)

    assert 1 == len(driven.asked_registries(Bootstrap))


def test_time_without_a_registry_does_not_count_as_waiting_for_the_last_set() -> None:
    """Without a registry nobody can found a set, and the other members may still be acknowledging."""
    driven = DrivenCore(opened=Opened(INCARNATION[B], {}, set_of(7, A, B)))
    for _ in range(2 * int(DEFAULT.assemble_s)):
        driven.after(1.0)
    driven.registry_renews(set_of(7), standing=Standing.OUTSIDE)
    driven.after(0.05)
    driven.registry_renews(set_of(7), standing=Standing.OUTSIDE)
    driven.after(0.05)

    assert [] == driven.asked_registries(Bootstrap)


def test_a_joiner_renews_and_fences_nobody() -> None:
    """A joiner does not judge members, even if a connection to one of them breaks."""
    driven = admitted()
    driven.registry_renews(driven.core.in_sync, standing=Standing.JOINING)
    driven.clear_effects()
    driven.core.connection(A, driven.now_s, up=False)
    driven.after(DEFAULT.heartbeat_s + 0.01)

    assert [] == driven.asked_registries(Fence)
    assert 1 == len(driven.asked_registries(Renew))
