"""Tests of nodes.replication.core.records: what is stored, confirmed, acknowledged and shown."""

from common.protocol.replication import Heartbeat, Replicate, Replicated
from nodes.replication.core.effects import AppendOutcome, Send
from nodes.replication.core.machine import DEFAULT
from tests.support.nodes.driven_core import INCARNATION, A, B, C, DrivenCore, set_of


def test_a_record_is_acknowledged_when_the_disk_and_all_members_have_it() -> None:
    """Neither the own disk alone nor one of two other members is enough."""
    driven = DrivenCore.in_sync()
    driven.append()
    assert [] == driven.outcomes()
    driven.confirms(A)
    assert [] == driven.outcomes()
    driven.confirms(C)

    assert [AppendOutcome.STORED] == driven.outcomes()


def test_a_record_is_sent_while_it_is_being_committed() -> None:
    """The confirmations of the members count only once the own disk has the record, too."""
    driven = DrivenCore.in_sync()
    driven.disk_waits = True
    driven.append()
    assert {A, C} == {send.address for send in driven.effects_of(Send) if isinstance(send.message, Replicate)}
    driven.confirms(A)
    driven.confirms(C)
    assert [] == driven.outcomes()
    driven.flush()

    assert [AppendOutcome.STORED] == driven.outcomes()


def test_records_in_another_set_of_the_same_term_are_refused() -> None:
    """Without a registry two sets may have one term; a sender outside the own set gets that set in return."""
    driven = DrivenCore.in_sync()
    own = set_of(6, B, C)
    driven.registry_renews(own)
    reply = driven.replicates(A, term=6, origin=A, upto=1)

    assert isinstance(reply, Replicated)
    assert (0, own) == (reply.upto, reply.in_sync)


def test_records_after_a_gap_are_refused() -> None:
    """The answer has the sequence up to which records are there, and the sender continues from it."""
    driven = DrivenCore.in_sync()
    reply = driven.replicates(A, term=5, origin=A, after=3, upto=5)

    assert isinstance(reply, Replicated)
    assert 0 == reply.upto


def test_only_the_new_records_of_a_repeated_range_are_stored() -> None:
    """A sender repeats records after a lost connection, and the known ones are not stored again."""
    driven = DrivenCore.in_sync()
    driven.replicates(A, term=5, origin=A, upto=2)
    driven.disk_waits = True
    driven.replicates(A, term=5, origin=A, upto=3)

    (commit,) = driven.commits
    assert [3] == [record.sequence for found in commit.ranges for record in found.records]


def test_a_record_is_shown_once_all_members_have_it() -> None:
    """That is known when its origin says so, or when all other members have reported that they have it."""
    driven = DrivenCore.in_sync()
    shown = {INCARNATION[A]: 1}
    driven.replicates(A, term=5, origin=A, upto=1)
    assert not driven.core.may_show(shown)
    driven.beats(A, set_of(5, A, B, C), watermark=1)
    assert driven.core.may_show(shown)

    driven.replicates(C, term=5, origin=C, upto=1)
    shown = {INCARNATION[C]: 1}
    assert not driven.core.may_show(shown)
    driven.beats(A, set_of(5, A, B, C), has={C: 1})
    driven.beats(C, set_of(5, A, B, C), has={C: 1})
    driven.run()
    assert driven.core.may_show(shown)


def test_a_member_whose_readers_wait_gets_a_confirmation_at_once() -> None:
    """Its heartbeat asks for the confirmation; other members get it with the next message to them."""
    driven = DrivenCore.in_sync()
    driven.append()
    driven.beats(A, set_of(5, A, B, C), commits={B: 1}, wants_watermark=True)
    driven.confirms(A)
    driven.confirms(C)
    assert [] == heartbeats(driven)
    driven.now_s += DEFAULT.watermark_s
    driven.run()

    assert [(A, 1)] == heartbeats(driven)
    assert driven.core.due_s() is None


def test_all_members_get_a_confirmation_at_the_next_tick() -> None:
    """The members may then show the record even if this replica dies."""
    driven = DrivenCore.in_sync()
    driven.append()
    driven.confirms(A)
    driven.confirms(C)
    driven.clear_effects()
    driven.after(0.05)
    driven.after(0.05)

    assert [(A, 1), (C, 1)] == heartbeats(driven)


def heartbeats(driven: DrivenCore) -> list[tuple[str, int]]:
    """The receivers of the heartbeats so far, and the confirmed sequence in each."""
    sends = driven.effects_of(Send)
    return [(send.address, send.message.watermark) for send in sends if isinstance(send.message, Heartbeat)]


def test_the_origin_of_an_unconfirmed_record_is_asked_once_per_tick() -> None:
    """Several readers of one record wait for the same answer."""
    driven = DrivenCore.in_sync()
    driven.replicates(A, term=5, origin=A, upto=1)
    driven.clear_effects()
    shown = {INCARNATION[A]: 1}
    assert driven.core.ask_whether_confirmed(shown, driven.now_s)
    assert not driven.core.ask_whether_confirmed(shown, driven.now_s)
    driven.run()
    sends = driven.effects_of(Send)
    asked = [(send.address, send.message.wants_watermark) for send in sends if isinstance(send.message, Heartbeat)]
    assert [(A, True)] == asked
    driven.after(0.05)

    assert driven.core.ask_whether_confirmed(shown, driven.now_s)
