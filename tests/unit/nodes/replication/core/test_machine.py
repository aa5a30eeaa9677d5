"""Tests of nodes.replication.core.machine: when appends are accepted, and what the runtime is asked to do."""

from common.protocol.replication import Fence
from nodes.replication.core.effects import AppendOutcome, Commit, NewIncarnation, Settings
from nodes.replication.core.machine import DEFAULT
from tests.support.nodes.driven_core import INCARNATION, A, B, C, DrivenCore, set_of

LATE_S = DEFAULT.confirm_s + 0.01
FULL = "the disk is full"


def test_a_replica_that_is_not_in_sync_refuses_appends_with_the_reason() -> None:
    """Nothing of a refused append is stored."""
    driven = DrivenCore()
    driven.append()

    assert [(AppendOutcome.REFUSED, "this replica is joining")] == [
        (finish.outcome, finish.reason) for finish in driven.finished()
    ]
    assert {} == driven.core.replica.pending


def test_the_bytes_of_unconfirmed_records_are_limited() -> None:
    """Beyond `pending_bytes` appends are refused, and nothing of them is stored."""
    driven = DrivenCore.in_sync(settings=Settings(pending_bytes=10))
    driven.append("eleven byte")
    driven.append("one more")

    assert [AppendOutcome.REFUSED] == driven.outcomes()
    assert 1 == driven.core.replica.pending[INCARNATION[B]]


def test_one_commit_is_made_at_a_time() -> None:
    """Records that arrive during a commit wait for it, and then share the next one."""
    driven = DrivenCore.in_sync()
    driven.disk_waits = True
    for _ in range(3):
        driven.append()
    (first,) = driven.commits
    assert [1] == sequences(first)
    driven.commits.clear()
    driven.core.committed(first, driven.now_s)
    driven.run()

    assert [[2, 3]] == [sequences(commit) for commit in driven.commits]


def sequences(commit: Commit) -> list[int]:
    """The sequence numbers of the records in a commit."""
    return [record.sequence for part in commit.ranges for record in part.records]


def failed_commit() -> DrivenCore:
    """A core in sync whose disk has refused the commit of an append."""
    driven = DrivenCore.in_sync()
    driven.disk_waits = True
    driven.append()
    driven.core.commit_failed(FULL, driven.now_s)
    driven.run()
    driven.clear_effects()
    return driven


def test_appends_are_refused_after_a_failed_commit() -> None:
    """The reason names the fault, and the disk is tried again at each interval of heartbeats, not at each tick."""
    driven = failed_commit()
    driven.append()
    assert [f"nothing can be written: {FULL}"] == [finish.reason for finish in driven.finished()]
    driven.after(DEFAULT.heartbeat_s - 0.01)
    assert [] == driven.effects_of(NewIncarnation)
    for _ in range(3):
        driven.after(0.01)

    assert [NewIncarnation()] == driven.effects_of(NewIncarnation)


def test_a_new_incarnation_ends_the_refusal_of_appends() -> None:
    """Its records are numbered from 1 again: the numbers of the failed commit are not used a second time."""
    driven = failed_commit()
    driven.takes_incarnation(9, set_of(5, A, B, C))
    driven.append()

    assert "" == driven.core.why_not_written()
    assert {9: 1} == driven.core.replica.pending


def test_a_new_incarnation_counts_only_when_no_set_has_the_old_one() -> None:
    """A listed replica waits for a registry to replace it; one that was fenced meanwhile may write as a joiner."""
    listed, fenced = failed_commit(), failed_commit()
    fenced.beats(C, set_of(6, A, C))
    for driven in (listed, fenced):
        driven.core.begin_incarnation(9, driven.now_s)

    assert [(INCARNATION[B], f"nothing can be written: {FULL}"), (9, "this replica is joining")] == [
        (driven.core.replica.incarnation, driven.core.why_not_written()) for driven in (listed, fenced)
    ]


def test_a_leaving_replica_finishes_its_appends_first() -> None:
    """It refuses new appends at once, and asks for its removal when the accepted ones are confirmed."""
    driven = DrivenCore.in_sync()
    driven.append()
    driven.core.leave(driven.now_s)
    driven.append()
    driven.after(0.01)
    assert [AppendOutcome.REFUSED] == driven.outcomes()
    assert [] == driven.asked_registries(Fence)
    driven.confirms(A)
    driven.confirms(C)
    driven.after(0.01)

    assert [AppendOutcome.REFUSED, AppendOutcome.STORED] == driven.outcomes()
    assert 1 == len(driven.asked_registries(Fence))


def test_a_process_that_stood_still_fences_nobody_for_its_own_pause() -> None:
    """Confirmations that lie in its sockets are received first, before a timeout of this process counts."""
    driven = DrivenCore.in_sync()
    driven.append()
    driven.now_s += LATE_S
    driven.core.stood_still(LATE_S, driven.now_s)
    driven.after(0.0)

    assert [] == driven.asked_registries(Fence)
