"""Tests of nodes.replication.core.membership: who is believed about the in-sync set, and who is fenced when."""

from common.protocol.replication import Fence, Heartbeat, InSyncSet, Member, Renew, Standing
from common.protocol.vectors import VectorEntry
from nodes.replication.core.effects import AppendOutcome, Opened, Send
from nodes.replication.core.machine import DEFAULT
from nodes.replication.core.state import Phase
from tests.support.driven_core import INCARNATION, A, B, C, DrivenCore, identity, set_of

LATE_S = DEFAULT.confirm_s + 0.01
DEAD = 9  # an incarnation whose process has ended
NEW = 22  # one that replaces that of B


def test_a_set_of_a_higher_term_is_stored_before_it_is_used() -> None:
    """Until the disk has it, the last one counts, and nothing is acknowledged."""
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
    """Where two registries list one replica each, both would come back and have the other fenced, in turn for ever."""
    driven = DrivenCore.in_sync()
    for _ in range(2):
        driven.registry_renews(set_of(6, A), standing=Standing.OUTSIDE, others=[set_of(7, B)])
        assert Phase.JOINING is driven.core.phase
    driven.registry_renews(set_of(8, A, B))

    assert Phase.READY is driven.core.phase


def test_any_registry_tells_a_replica_that_it_was_fenced() -> None:
    """Its set is the newer one, wherever it was decided."""
    driven = DrivenCore.in_sync()
    driven.registry_renews(set_of(5, A, B, C), others=[set_of(6, A, C)])

    assert Phase.JOINING is driven.core.phase


def test_a_stranger_fences_nobody() -> None:
    """Another process at the address of a member is not that member."""
    driven = DrivenCore.in_sync()
    stranger = InSyncSet(6, (Member(C, 99, 6, listed=True),))
    driven.beats(C, stranger, incarnation=99)

    assert Phase.READY is driven.core.phase


def test_a_member_that_does_not_confirm_in_time_is_fenced() -> None:
    """Not before the limit, and by one question to the registries at a time."""
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
    """The next tick does it."""
    driven = DrivenCore.in_sync()
    driven.core.connection(A, driven.now_s, up=False)
    driven.after(0.01)

    assert 1 == len(driven.asked_registries(Fence))


def test_without_a_registry_a_member_is_waited_for_as_long_as_it_may_be_listed() -> None:
    """It goes on a lease after the last renewal that a registry may have received, and sends none meanwhile."""
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


def test_a_lease_is_waited_for_from_when_the_last_renewal_was_sent() -> None:
    """Not from when it was given up; and it is over at the next tick, whatever question is under way then."""
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


def test_while_registries_leave_a_fence_unanswered_nothing_is_renewed() -> None:
    """A renewal that a registry may receive would prolong the wait; after `registry_s` renewals go on."""
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


def test_a_replica_that_has_left_does_not_fence_anybody_by_itself() -> None:
    """Its Fence is still under way when it is fenced itself. When no registry answers, it founds no set, and renews."""
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
    """Its host refuses connections."""
    driven = DrivenCore.in_sync()
    driven.core.connection(A, driven.now_s, up=False, refused=True)
    driven.after(0.01)
    driven.no_registry(driven.asked_registries(Fence)[-1])
    driven.after(0.05)

    assert {B, C} == {one.address for one in driven.core.in_sync.members}


def test_a_process_that_stood_still_does_not_believe_its_timers() -> None:
    """The confirmation may lie in its socket: it is taken first, and nobody is fenced for what this process missed."""
    driven = DrivenCore.in_sync()
    driven.append()
    driven.now_s += LATE_S
    driven.core.stood_still(LATE_S, driven.now_s)
    driven.after(0.0)

    assert [] == driven.asked_registries(Fence)


def test_members_that_are_idle_hear_a_heartbeat_each_second() -> None:
    """One to each."""
    driven = DrivenCore.in_sync()
    driven.after(DEFAULT.heartbeat_s + 0.01)
    beats = [send.address for send in driven.effects_of(Send) if isinstance(send.message, Heartbeat)]

    assert [A, C] == sorted(beats)


def test_a_new_process_at_the_address_of_a_member_is_no_member() -> None:
    """The incarnation that is in the set is fenced, for the new process may have lost its disk."""
    driven = DrivenCore.in_sync()
    driven.beats(A, InSyncSet(0, ()), incarnation=99)
    driven.after(0.01)

    asked = driven.asked_registries(Fence)
    assert [(identity(A),)] == [one.message.targets for one in asked if isinstance(one.message, Fence)]


def test_without_a_registry_a_short_interruption_parts_nobody() -> None:
    """No registry has answered for long, and no lease is left: a suspect is waited for as long all the same."""
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


def test_what_a_joiner_said_does_not_count_against_it_as_a_member() -> None:
    """It said that it was in no set of the last term: that is over when it is admitted."""
    driven = DrivenCore.in_sync()
    driven.registry_renews(set_of(6, B, C))
    driven.joins(A, term=6)
    driven.registry_renews(set_of(7, B, C, joining=[A]))
    driven.after(0.01)

    assert [] == driven.asked_registries(Fence)


def test_a_member_that_was_fenced_is_told() -> None:
    """It may serve until it hears of that, where it cannot reach a registry."""
    driven = DrivenCore.in_sync()
    driven.registry_renews(set_of(6, B, C))
    beats = [send.message for send in driven.effects_of(Send) if send.address == A]

    assert [set_of(6, B, C)] == [beat.in_sync for beat in beats if isinstance(beat, Heartbeat)]


def test_a_set_that_is_stored_after_this_replica_has_left_it_is_not_used() -> None:
    """The commit was under way when a newer set without this replica came."""
    driven = DrivenCore.in_sync()
    driven.disk_waits = True
    driven.registry_renews(set_of(6, A, B))
    driven.beats(A, set_of(7, A))
    driven.flush()

    assert (7, ()) == driven.core.in_sync
    assert Phase.JOINING is driven.core.phase


def standing_still(seconds: float = LATE_S) -> DrivenCore:
    """A core in sync whose process stood still."""
    driven = DrivenCore.in_sync()
    driven.now_s += seconds
    driven.core.stood_still(seconds, driven.now_s)
    driven.run()
    return driven


def test_a_registry_that_starts_does_not_end_a_suspension() -> None:
    """It does not know yet whom others have fenced."""
    driven = standing_still()
    driven.registry_renews(set_of(5, A, B, C), standing=Standing.STARTING)

    assert not driven.core.may_show({})


def test_an_answer_to_a_question_of_before_does_not_end_a_suspension() -> None:
    """The registry gave it before the others fenced this replica; the next one counts."""
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
    """Each has answered since, and still counts on this replica: nobody has acknowledged without it."""
    driven = standing_still()
    driven.peers_answer(A)
    assert not driven.core.may_show({})
    driven.peers_answer(C)

    assert driven.core.may_show({})


def test_a_late_word_of_an_older_set_does_not_undo_a_newer_one() -> None:
    """A replica was fenced, and admitted again: it is storing that set when it hears of its fence."""
    driven = DrivenCore.in_sync()
    driven.disk_waits = True
    driven.registry_renews(set_of(7, A, C, joining=[B]), standing=Standing.JOINING)
    driven.beats(C, set_of(6, A, C))
    driven.flush()

    assert 7 == driven.core.in_sync.term
    assert driven.core.replica.member()


def test_without_a_registry_a_process_that_started_again_is_not_waited_for() -> None:
    """The new incarnation says that the one in the set has ended."""
    driven = DrivenCore.in_sync()
    driven.beats(A, InSyncSet(0, ()), incarnation=99)
    driven.after(0.01)
    driven.no_registry(driven.asked_registries(Fence)[-1])
    driven.after(0.05)

    assert {B, C} == {one.address for one in driven.core.in_sync.members}


def test_the_last_replica_leaves_when_the_registry_lists_it_no_more() -> None:
    """The set stays as it was, for whoever starts first; the node need not wait for anybody to stop."""
    driven = DrivenCore.in_sync()
    driven.registry_renews(set_of(6, B))
    driven.core.leave(driven.now_s)
    driven.after(0.05)
    (asked,) = driven.asked_registries(Fence)
    driven.registry_answers(asked, set_of(6, B), live=())

    assert driven.core.left


def test_members_tell_each_other_their_whole_vector_once() -> None:
    """Two that join together send Join to the listed replica only: neither knew which old records the other has."""
    driven = DrivenCore(opened=Opened(INCARNATION[B], vector={DEAD: 3}))
    driven.registry_renews(set_of(5, A, joining=[B, C]))
    told = [send.message for send in driven.effects_of(Send) if send.address == C]
    assert [VectorEntry(DEAD, 3)] == [
        one for message in told if isinstance(message, Heartbeat) for one in message.vector
    ]

    driven.peers_answer(C)
    driven.clear_effects()
    driven.after(DEFAULT.heartbeat_s + 0.01)
    told = [send.message for send in driven.effects_of(Send) if send.address == C]
    assert [()] == [message.vector for message in told if isinstance(message, Heartbeat)]


def test_an_answer_to_the_former_incarnation_tells_nothing_of_the_new_one() -> None:
    """The receiver takes a new incarnation for another replica: it has to be told the whole vector again."""
    driven = DrivenCore(opened=Opened(INCARNATION[B], vector={DEAD: 3}))
    driven.registry_renews(set_of(5, A, joining=[B, C]))
    before = [send for send in driven.effects_of(Send) if send.address == C]
    driven.core.reborn(NEW, driven.now_s)
    for send in before:
        driven.answer(send)
    driven.clear_effects()
    driven.core.replica.heartbeat(driven.core.replica.peer(C))
    driven.run()

    (message,) = [send.message for send in driven.effects_of(Send) if send.address == C]
    assert isinstance(message, Heartbeat)
    assert (NEW, True) == (message.incarnation, message.whole)
