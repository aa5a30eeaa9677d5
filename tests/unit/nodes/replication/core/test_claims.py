"""Tests of nodes.replication.core.claims: which replica decides about an idempotency key, and when."""

from common.protocol.content import Entry
from nodes.replication.core.effects import AppendOutcome, FindKey, Forward
from nodes.storage.protocol import digest
from tests.support.nodes.core_schedules import owner_of
from tests.support.nodes.driven_core import A, B, C, DrivenCore, id_of, set_of

FIRST = id_of(1)


def key_of(owner: str) -> str:
    """A key about which a replica decides in the set of all three, and in each smaller set with that replica."""
    for number in range(100):
        if owner == owner_of(DrivenCore.in_sync(), f"key-{number}"):
            return f"key-{number}"
    raise AssertionError(f"{owner} decides about none of 100 keys")


def stored(driven: DrivenCore) -> list[tuple[AppendOutcome, str]]:
    """The outcome and the id of each append that has ended once both peers have confirmed."""
    driven.confirms(A)
    driven.confirms(C)
    return [(finish.outcome, finish.message_id) for finish in driven.finished()]


def test_a_new_key_is_stored_if_the_journal_lacks_it() -> None:
    """The journal is searched first, and the append ends when all members have confirmed."""
    driven = DrivenCore.in_sync()
    key = key_of(B)
    driven.append_keyed(key, number=1)
    assert [FindKey(key)] == driven.effects_of(FindKey)
    driven.core.key_found(key, "", "", driven.now_s)
    driven.run()

    assert [] == driven.finished()
    assert [(AppendOutcome.STORED, FIRST)] == stored(driven)


def test_a_known_key_is_acknowledged_with_its_first_id() -> None:
    """The message gets a new record that all members confirm, since its first record may be at one replica only."""
    driven = DrivenCore.in_sync()
    key = key_of(B)
    driven.append_keyed(key, text="text", number=2)
    driven.core.key_found(key, FIRST, digest(Entry("", "text")), driven.now_s)
    driven.run()

    assert [] == driven.finished()
    assert [(AppendOutcome.STORED, FIRST)] == stored(driven)


def test_a_known_key_with_another_text_is_a_conflict() -> None:
    """A key that belongs to another text is a conflict, and nothing is stored."""
    driven = DrivenCore.in_sync()
    key = key_of(B)
    driven.append_keyed(key, text="text")
    driven.core.key_found(key, FIRST, digest(Entry("", "another text")), driven.now_s)
    driven.run()

    assert [AppendOutcome.CONFLICT] == driven.outcomes()


def test_an_append_is_forwarded_to_the_replica_that_decides() -> None:
    """A replica forwards a key to the one that decides, and refuses a forwarded key that is not its own."""
    driven = DrivenCore.in_sync()
    key = key_of(C)
    driven.append_keyed(key)
    assert [C] == [forward.owner for forward in driven.effects_of(Forward)]
    driven.append_keyed(key, forwarded=True)

    assert [AppendOutcome.REFUSED] == driven.outcomes()


def test_a_key_whose_commit_failed_keeps_its_id() -> None:
    """The peers may have the record of a failed commit, so a retry under the next incarnation gets the same id."""
    driven = DrivenCore.in_sync()
    key = key_of(B)
    driven.disk_waits = True
    driven.append_keyed(key, number=1)
    driven.core.key_found(key, "", "", driven.now_s)
    driven.run()
    driven.core.commit_failed("the disk is full", driven.now_s)
    driven.run()
    assert [AppendOutcome.UNKNOWN] == driven.outcomes()

    driven.clear_effects()
    driven.takes_incarnation(9, set_of(5, A, B, C))
    driven.append_keyed(key, number=2)
    driven.core.key_found(key, "", "", driven.now_s)
    driven.run()

    assert [(AppendOutcome.STORED, FIRST)] == stored(driven)
