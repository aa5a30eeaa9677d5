"""Tests of nodes.replication.core.records: what is stored, confirmed, acknowledged and shown."""

from common.protocol.replication import Heartbeat, Replicate, Replicated
from nodes.replication.core.effects import AppendOutcome, Send, Settings
from nodes.replication.core.machine import DEFAULT
from tests.support.driven_core import INCARNATION, A, B, C, DrivenCore, set_of


def test_a_record_is_acknowledged_when_the_disk_and_all_members_have_it() -> None:
    """Not by the disk alone, and not by one member of two."""
    driven = DrivenCore.in_sync()
    driven.append()
    assert [] == driven.outcomes()
    driven.confirms(A)
    assert [] == driven.outcomes()
    driven.confirms(C)

    assert [AppendOutcome.STORED] == driven.outcomes()


def test_a_record_is_sent_while_it_is_being_committed() -> None:
    """The members' confirmations count only when the own disk has it, too."""
    driven = DrivenCore.in_sync()
    driven.disk_waits = True
    driven.append()
    assert {A, C} == {send.address for send in driven.effects_of(Send) if isinstance(send.message, Replicate)}
    driven.confirms(A)
    driven.confirms(C)
    assert [] == driven.outcomes()
    driven.flush()

    assert [AppendOutcome.STORED] == driven.outcomes()


def test_records_of_another_set_of_the_same_term_are_not_taken() -> None:
    """Without a registry two replicas may make sets of one term: who is in only one of them is told of the other."""
    driven = DrivenCore.in_sync()
    own = set_of(6, B, C)
    driven.registry_renews(own)
    reply = driven.replicates(A, term=6, origin=A, upto=1)

    assert isinstance(reply, Replicated)
    assert (0, own) == (reply.upto, reply.in_sync)


def test_records_after_a_gap_are_not_taken() -> None:
    """The answer says what is there, from which the sender goes on."""
    driven = DrivenCore.in_sync()
    reply = driven.replicates(A, term=5, origin=A, after=3, upto=5)

    assert isinstance(reply, Replicated)
    assert 0 == reply.upto


def test_of_a_range_that_is_partly_known_only_the_new_records_are_stored() -> None:
    """A sender repeats records after a lost connection; they are not stored twice."""
    driven = DrivenCore.in_sync()
    driven.replicates(A, term=5, origin=A, upto=2)
    driven.disk_waits = True
    driven.replicates(A, term=5, origin=A, upto=3)

    (commit,) = driven.commits
    assert [3] == [record.sequence for found in commit.ranges for record in found.records]


def test_what_another_member_may_lack_is_not_shown() -> None:
    """A record of A may be shown when A says that all have it, or when all others have said that they have it."""
    driven = DrivenCore.in_sync()
    shown = {INCARNATION[A]: 1}
    driven.replicates(A, term=5, origin=A, upto=1)
    assert not driven.core.may_show(shown)
    driven.beats(A, set_of(5, A, B, C), confirmed=1)
    assert driven.core.may_show(shown)

    driven.replicates(C, term=5, origin=C, upto=1)
    shown = {INCARNATION[C]: 1}
    assert not driven.core.may_show(shown)
    driven.beats(A, set_of(5, A, B, C), has={C: 1})
    driven.beats(C, set_of(5, A, B, C), has={C: 1})
    driven.run()
    assert driven.core.may_show(shown)


def test_a_member_whose_readers_wait_hears_of_a_confirmation_at_once() -> None:
    """It asks, and is told when the record is on all disks; who does not ask hears of it with the next message."""
    driven = DrivenCore.in_sync()
    driven.append()
    driven.beats(A, set_of(5, A, B, C), commits={B: 1}, wants_confirmed=True)
    driven.confirms(A)
    driven.confirms(C)
    assert [] == heartbeats(driven)
    driven.now_s += DEFAULT.watermark_s
    driven.run()

    assert [(A, 1)] == heartbeats(driven)
    assert driven.core.due_s() is None


def test_members_hear_of_a_confirmation_at_the_next_tick() -> None:
    """Also when no reader waits: if this replica is gone then, they may show the record without waiting for a fence."""
    driven = DrivenCore.in_sync()
    driven.append()
    driven.confirms(A)
    driven.confirms(C)
    driven.clear_effects()
    driven.after(0.05)
    driven.after(0.05)

    assert [(A, 1), (C, 1)] == heartbeats(driven)


def heartbeats(driven: DrivenCore) -> list[tuple[str, int]]:
    """To whom heartbeats were sent, and the confirmations that they told."""
    sends = driven.effects_of(Send)
    return [(send.address, send.message.confirmed) for send in sends if isinstance(send.message, Heartbeat)]


def test_who_may_not_show_a_record_yet_asks_its_origin_once() -> None:
    """The next reader of the same record waits for the same answer; after a tick it is asked again."""
    driven = DrivenCore.in_sync()
    driven.replicates(A, term=5, origin=A, upto=1)
    driven.clear_effects()
    shown = {INCARNATION[A]: 1}
    assert driven.core.ask_whether_confirmed(shown, driven.now_s)
    assert not driven.core.ask_whether_confirmed(shown, driven.now_s)
    driven.run()
    (asked,) = [send for send in driven.effects_of(Send) if isinstance(send.message, Heartbeat)]
    assert (A, True) == (asked.address, asked.message.wants_confirmed)  # type: ignore[union-attr]
    driven.after(0.05)

    assert driven.core.ask_whether_confirmed(shown, driven.now_s)


def test_what_waits_for_its_confirmation_has_a_limit_in_bytes() -> None:
    """Beyond it appends are refused, and nothing of them is stored."""
    driven = DrivenCore.in_sync(settings=Settings(pending_bytes=10))
    driven.append("eleven byte")
    driven.append("one more")

    assert [AppendOutcome.REFUSED] == driven.outcomes()
    assert 1 == driven.core.replica.pending[INCARNATION[B]]
