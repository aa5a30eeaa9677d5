"""Tests of nodes.replication.core.membership: which in-sync set is adopted, and which members are fenced when."""

from common.protocol.replication import Fence, Heartbeat, InSyncSet, Member, Renew, Standing
from common.protocol.vectors import VectorEntry
from nodes.replication.core.effects import AppendOutcome, Opened, Send
from nodes.replication.core.machine import DEFAULT
from nodes.replication.core.state import Phase
from tests.support.nodes.driven_core import INCARNATION, A, B, C, DrivenCore, identity, set_of

LATE_S = DEFAULT.confirm_s + 0.01
DEAD = 9  # an incarnation whose process has ended
NEW = 22  # one that replaces that of B


def test_a_set_of_a_higher_term_is_stored_before_it_is_used() -> None:
    """Until the disk has the new set, the old one is in effect, and nothing is acknowledged by the new one."""
    driven = DrivenCore.in_sync()
    driven.append()
    driven.confirms(C)
    driven.disk_waits = True
    driven.registry_renews(set_of(6, B, C))
    assert (5, []) == (driven.core.in_sync.term, driven.finished())
    driven.flush()

    assert 6 == driven.core.in_sync.term
    assert [AppendOutcome.STORED] == driven.outcomes()


def test_only_the_deciding_registry_brings_back_a_replica_that_has_left() -> None:
    """If two registries each list one replica, both replicas would otherwise return and fence each other for ever."""
    driven = DrivenCore.in_sync()
    for _ in range(2):
        driven.registry_renews(set_of(6, A), standing=Standing.OUTSIDE, others=[set_of(7, B)])
        assert Phase.JOINING is driven.core.phase
    driven.registry_renews(set_of(8, A, B))

    assert Phase.READY is driven.core.phase


def test_any_registry_tells_a_replica_that_it_was_fenced() -> None:
    """A newer set without this replica counts, whichever registry has it."""
    driven = DrivenCore.in_sync()
    driven.registry_renews(set_of(5, A, B, C), others=[set_of(6, A, C)])

    assert Phase.JOINING is driven.core.phase


def test_another_process_at_the_address_of_a_member_fences_nobody() -> None:
    """A newer set counts only from a member, and another incarnation at its address is not that member."""
    driven = DrivenCore.in_sync()
    stranger = InSyncSet(6, (Member(C, 99, 6, listed=True),))
    driven.beats(C, stranger, incarnation=99)

    assert Phase.READY is driven.core.phase


def test_a_member_that_does_not_confirm_in_time_is_fenced() -> None:
    """A member is not fenced before `confirm_s`, and then by one request to the registries at a time."""
    driven = DrivenCore.in_sync()
    driven.append()
    driven.confirms(C)
    driven.after(DEFAULT.confirm_s - 0.01)
    assert [] == driven.asked_registries(Fence)
    driven.after(0.02)
    driven.after(0.02)
    asked = driven.asked_registries(Fence)

    assert [Fence(node=B, incarnation=INCARNATION[B], targets=(identity(A),))] == [one.message for one in asked]


def test_a_member_whose_connection_breaks_is_fenced_at_once() -> None:
    """The registries are asked to fence the member at the next tick."""
    driven = DrivenCore.in_sync()
    driven.core.connection(A, driven.now_s, up=False)
    driven.after(0.01)

    assert 1 == len(driven.asked_registries(Fence))


def test_without_a_registry_a_member_is_waited_for_as_long_as_it_may_be_listed() -> None:
    """The set shrinks one lease after the last renewal that may have arrived, and none is sent in the meantime."""
    driven = DrivenCore.in_sync()
    driven.core.connection(A, driven.now_s, up=False)
    driven.after(0.01)
    driven.no_registry(driven.asked_registries(Fence)[-1])
    driven.clear_effects()
    for _ in range(5):
        driven.after(0.5)
        driven.peers_answer(C)
        driven.no_registry(driven.asked_registries(Fence)[-1])
    assert 5 == driven.core.in_sync.term
    assert [] == driven.asked_registries(Renew)
    driven.after(0.6)
    driven.peers_answer(C)
    driven.no_registry(driven.asked_registries(Fence)[-1])

    assert {B, C} == {one.address for one in driven.core.in_sync.members}
    assert 6 == driven.core.in_sync.term


def test_the_wait_for_a_lease_begins_when_the_last_renewal_was_sent() -> None:
    """The time until the renewal was given up counts, and the wait ends at a tick even if a request is open."""
    driven = DrivenCore.in_sync()
    driven.core.connection(A, driven.now_s, up=False)
    driven.after(0.01)
    sent_s = driven.now_s
    driven.now_s += DEFAULT.registry_s
    driven.no_registry(driven.asked_registries(Fence)[-1], renewed_s=sent_s)
    while driven.now_s - sent_s < DEFAULT.lease_s - 0.1:
        driven.after(0.1)
        driven.peers_answer(C)
    assert 5 == driven.core.in_sync.term
    driven.after(0.11)

    assert {B, C} == {one.address for one in driven.core.in_sync.members}


def test_no_renewal_is_sent_while_a_fence_is_unanswered() -> None:
    """A renewal that arrives would prolong the wait for the lease; after `registry_s` renewals are sent again."""
    driven = DrivenCore.in_sync()
    driven.after(DEFAULT.heartbeat_s - 0.05)
    driven.peers_answer()
    driven.core.connection(A, driven.now_s, up=False)
    driven.clear_effects()
    driven.after(0.01)
    driven.after(0.1)
    assert [] == driven.asked_registries(Renew)
    driven.after(DEFAULT.registry_s)

    assert 1 == len(driven.asked_registries(Renew))


def test_a_fenced_replica_does_not_shrink_the_set_without_a_registry() -> None:
    """A Fence that is unanswered when the replica itself is fenced founds no set, and the replica renews."""
    driven = DrivenCore.in_sync()
    driven.core.connection(A, driven.now_s, up=False)
    driven.after(0.01)
    driven.beats(C, set_of(6, A, C))
    driven.registry_renews(set_of(7, A, C, joining=[B]), standing=Standing.JOINING)
    driven.registry_renews(set_of(7, A, C, joining=[B]), standing=Standing.JOINING)
    driven.now_s += DEFAULT.lease_s
    driven.no_registry(driven.asked_registries(Fence)[-1])
    assert 7 == driven.core.in_sync.term
    driven.clear_effects()
    driven.after(0.01)

    assert 1 == len(driven.asked_registries(Renew))


def test_without_a_registry_a_process_that_has_ended_is_not_waited_for() -> None:
    """If the host of a member refuses connections, its process has ended, and its lease is not waited for."""
    driven = DrivenCore.in_sync()
    driven.core.connection(A, driven.now_s, up=False, refused=True)
    driven.after(0.01)
    driven.no_registry(driven.asked_registries(Fence)[-1])
    driven.after(0.05)

    assert {B, C} == {one.address for one in driven.core.in_sync.members}


def test_idle_members_exchange_a_heartbeat_each_second() -> None:
    """Each other member gets exactly one heartbeat per interval."""
    driven = DrivenCore.in_sync()
    driven.after(DEFAULT.heartbeat_s + 0.01)
    beats = [send.address for send in driven.effects_of(Send) if isinstance(send.message, Heartbeat)]

    assert [A, C] == sorted(beats)


def test_a_restarted_member_is_fenced() -> None:
    """The incarnation that is in the set is fenced, since the new process may have lost its disk."""
    driven = DrivenCore.in_sync()
    driven.beats(A, InSyncSet(0, ()), incarnation=99)
    driven.after(0.01)

    asked = driven.asked_registries(Fence)
    assert [(identity(A),)] == [one.message.targets for one in asked if isinstance(one.message, Fence)]


def test_without_a_registry_a_short_interruption_does_not_shrink_the_set() -> None:
    """A suspect has a whole lease to return, however long no registry has answered."""
    driven = DrivenCore.in_sync()
    driven.now_s += 60.0
    driven.core.stood_still(0.0, driven.now_s)
    driven.core.connection(A, driven.now_s, up=False)
    driven.after(0.01)
    driven.no_registry(driven.asked_registries(Fence)[-1])
    driven.peers_answer(C)
    driven.after(DEFAULT.lease_s - 0.2)
    driven.peers_answer(C)
    driven.core.connection(A, driven.now_s, up=True)
    driven.peers_answer(A)
    driven.after(0.3)

    assert 5 == driven.core.in_sync.term


def test_what_a_joiner_reported_does_not_count_once_it_is_a_member() -> None:
    """Its report that it was outside the last set is void once it is admitted."""
    driven = DrivenCore.in_sync()
    driven.registry_renews(set_of(6, B, C))
    driven.joins(A, term=6)
    driven.registry_renews(set_of(7, B, C, joining=[A]))
    driven.after(0.01)

    assert [] == driven.asked_registries(Fence)


def test_a_fenced_member_gets_the_set_without_it() -> None:
    """A fenced member that cannot reach a registry serves until a heartbeat brings the newer set."""
    driven = DrivenCore.in_sync()
    driven.registry_renews(set_of(6, B, C))
    beats = [send.message for send in driven.effects_of(Send) if send.address == A]

    assert [set_of(6, B, C)] == [beat.in_sync for beat in beats if isinstance(beat, Heartbeat)]


def test_a_set_that_became_outdated_during_its_commit_is_not_used() -> None:
    """A newer set without this replica arrives while the older one is being committed."""
    driven = DrivenCore.in_sync()
    driven.disk_waits = True
    driven.registry_renews(set_of(6, A, B))
    driven.beats(A, set_of(7, A))
    driven.flush()

    assert (7, ()) == driven.core.in_sync
    assert Phase.JOINING is driven.core.phase


def standing_still(seconds: float = LATE_S) -> DrivenCore:
    """A core in sync whose process stood still for some seconds."""
    driven = DrivenCore.in_sync()
    driven.now_s += seconds
    driven.core.stood_still(seconds, driven.now_s)
    driven.run()
    return driven


def test_a_starting_registry_does_not_end_a_suspension() -> None:
    """It does not know yet which members others have fenced."""
    driven = standing_still()
    driven.registry_renews(set_of(5, A, B, C), standing=Standing.STARTING)

    assert not driven.core.may_show({})


def test_an_answer_to_a_request_before_the_pause_does_not_end_a_suspension() -> None:
    """The registry may have given it before this replica was fenced, so only the next answer counts."""
    driven = DrivenCore.in_sync()
    driven.after(DEFAULT.heartbeat_s + 0.01)
    driven.peers_answer(A, C)
    driven.now_s += LATE_S
    driven.core.stood_still(LATE_S, driven.now_s)
    driven.registry_renews(set_of(5, A, B, C))
    assert not driven.core.may_show({})
    driven.after(0.05)
    driven.registry_renews(set_of(5, A, B, C))

    assert driven.core.may_show({})


def test_without_a_registry_all_members_together_end_a_suspension() -> None:
    """If each member has answered since and still counts this replica in, nothing was acknowledged without it."""
    driven = standing_still()
    driven.peers_answer(A)
    assert not driven.core.may_show({})
    driven.peers_answer(C)

    assert driven.core.may_show({})


def test_a_late_heartbeat_with_an_older_set_does_not_undo_a_newer_set() -> None:
    """The heartbeat with the fence arrives while the set that admits the replica again is being stored."""
    driven = DrivenCore.in_sync()
    driven.disk_waits = True
    driven.registry_renews(set_of(7, A, C, joining=[B]), standing=Standing.JOINING)
    driven.beats(C, set_of(6, A, C))
    driven.flush()

    assert 7 == driven.core.in_sync.term
    assert driven.core.replica.member()


def test_without_a_registry_a_restarted_member_is_not_waited_for() -> None:
    """The new incarnation proves that the process in the set has ended."""
    driven = DrivenCore.in_sync()
    driven.beats(A, InSyncSet(0, ()), incarnation=99)
    driven.after(0.01)
    driven.no_registry(driven.asked_registries(Fence)[-1])
    driven.after(0.05)

    assert {B, C} == {one.address for one in driven.core.in_sync.members}


def test_the_last_replica_has_left_once_the_registry_no_longer_lists_it() -> None:
    """The set stays as it is for the next replica that starts, and the node stops without waiting for anybody."""
    driven = DrivenCore.in_sync()
    driven.registry_renews(set_of(6, B))
    driven.core.leave(driven.now_s)
    driven.after(0.05)
    (asked,) = driven.asked_registries(Fence)
    driven.registry_answers(asked, set_of(6, B), live=())

    assert driven.core.left


def test_members_send_each_other_their_whole_vector_once() -> None:
    """Two joiners send Join to the listed replica only, so heartbeats carry the old records that each has."""
    driven = DrivenCore(opened=Opened(INCARNATION[B], vector={DEAD: 3}))
    driven.registry_renews(set_of(5, A, joining=[B, C]))
    beats = [send.message for send in driven.effects_of(Send) if send.address == C]
    assert [VectorEntry(DEAD, 3)] == [
        one for message in beats if isinstance(message, Heartbeat) for one in message.vector
    ]

    driven.peers_answer(C)
    driven.clear_effects()
    driven.after(DEFAULT.heartbeat_s + 0.01)
    beats = [send.message for send in driven.effects_of(Send) if send.address == C]
    assert [()] == [message.vector for message in beats if isinstance(message, Heartbeat)]


def test_an_answer_to_the_former_incarnation_does_not_count_for_the_new_one() -> None:
    """A receiver takes a new incarnation for another replica, so it must get the whole vector again."""
    driven = DrivenCore(opened=Opened(INCARNATION[B], vector={DEAD: 3}))
    driven.registry_renews(set_of(5, A, joining=[B, C]))
    before = [send for send in driven.effects_of(Send) if send.address == C]
    driven.core.begin_incarnation(NEW, driven.now_s)
    for send in before:
        driven.answer(send)
    driven.clear_effects()
    driven.core.replica.heartbeat(driven.core.replica.peer(C))
    driven.run()

    (message,) = [send.message for send in driven.effects_of(Send) if send.address == C]
    assert isinstance(message, Heartbeat)
    assert (NEW, True) == (message.incarnation, message.whole)
