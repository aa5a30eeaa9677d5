"""Tests of nodes.replication.core.sending: which records a peer is sent, and how many at once."""

from common.protocol.replication import Record, Replicate
from nodes.replication.core.effects import LoadRecords, Range, Send, Settings
from nodes.replication.core.machine import DEFAULT
from tests.support.nodes.driven_core import INCARNATION, A, B, C, DrivenCore, id_of, set_of

OWN = INCARNATION[B]


def sent_to(driven: DrivenCore, peer: str) -> list[list[int]]:
    """The sequence numbers of the records in each Replicate to a peer, since `clear_effects`."""
    return [
        [record.sequence for record in send.message.records]
        for send in driven.effects_of(Send)
        if send.address == peer and isinstance(send.message, Replicate)
    ]


def test_records_wait_for_room_in_the_window_and_then_go_together() -> None:
    """A slow peer gets fewer and larger Replicates, of at most `batch_records`, and no record twice."""
    driven = DrivenCore.in_sync(settings=Settings(window=1, batch_records=2))
    for _ in range(4):
        driven.append()
    assert [[1]] == sent_to(driven, A)
    driven.confirms(A)
    assert [[1], [2, 3]] == sent_to(driven, A)
    driven.confirms(A)

    assert [[1], [2, 3], [4]] == sent_to(driven, A)
    assert [[1]] == sent_to(driven, C)


def test_a_text_that_is_longer_than_a_batch_is_sent_alone() -> None:
    """The bytes of a Replicate are limited, but it has at least one record, or a long text would stop replication."""
    driven = DrivenCore.in_sync(settings=Settings(window=1, batch_bytes=10))
    for text in ("first", "x" * 50, "four", "five", "six"):
        driven.append(text)
    for _ in range(3):
        driven.confirms(A)

    assert [[1], [2], [3, 4], [5]] == sent_to(driven, A)


def test_unconfirmed_records_are_sent_again_after_a_lost_connection() -> None:
    """Nothing is sent while the peer is disconnected; then it gets what it had not confirmed."""
    driven = DrivenCore.in_sync()
    driven.append()
    driven.confirms(A)
    driven.append()
    driven.core.connection(A, driven.now_s, up=False)
    driven.clear_effects()
    driven.run()
    assert [] == sent_to(driven, A)
    driven.core.connection(A, driven.now_s, up=True)
    driven.run()

    assert [[2]] == sent_to(driven, A)


def joined_after_a_record() -> DrivenCore:
    """B in a set with C, which both have a record of B; A asks B for records, and has none."""
    driven = DrivenCore.in_sync()
    driven.registry_renews(set_of(6, B, C))
    driven.append()
    driven.confirms(C)
    driven.clear_effects()
    driven.joins(A)
    return driven


def test_records_that_all_members_have_are_read_from_the_journal() -> None:
    """They are not kept in memory; the peer is sent what was read, once."""
    driven = joined_after_a_record()
    assert [LoadRecords(A, OWN, 0, 1)] == driven.effects_of(LoadRecords)
    assert [] == sent_to(driven, A)
    found = Range(OWN, 0, 1, (Record(1, id_of(1), "text", None),))
    driven.core.loaded(A, found, driven.now_s)
    driven.run()
    driven.core.loaded(A, found, driven.now_s)
    driven.run()

    assert [[1]] == sent_to(driven, A)


def test_a_failed_read_is_repeated_after_a_pause() -> None:
    """The journal is not asked again before `retry_s`, since its disk may be the reason."""
    driven = joined_after_a_record()
    driven.core.loaded(A, None, driven.now_s)
    driven.clear_effects()
    driven.after(DEFAULT.retry_s / 2)
    assert [] == driven.effects_of(LoadRecords)
    driven.after(DEFAULT.retry_s / 2 + 0.01)

    assert [LoadRecords(A, OWN, 0, 1)] == driven.effects_of(LoadRecords)
