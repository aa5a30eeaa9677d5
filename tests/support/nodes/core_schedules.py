"""Schedules of one replication core, or of one registry: short orders of events that break a weaker protocol.

`tests/simulation` runs them, also with a rule of the protocol broken on purpose.
"""

import itertools

import msgspec

from common.protocol.replication import Admit, Renew, Replicated, Standing
from nodes.replication.core.effects import AppendOutcome, FindKey, Forward
from nodes.replication.core.machine import DEFAULT
from nodes.replication.core.state import Phase
from registry.in_sync import InSyncDirectory
from tests.support.nodes.driven_core import INCARNATION, A, B, C, DrivenCore, identity, set_of

LATE_S = DEFAULT.confirm_s + 0.01


def owner_of(driven: DrivenCore, key: str) -> str:
    """The owner of a key in the current set of B."""
    driven.clear_effects()
    driven.append_keyed(key)
    return next((forward.owner for forward in driven.effects_of(Forward)), B)


def inherited_key() -> str:
    """A key that A owns in the set of all three, and B owns when A is fenced."""
    for number in range(100):
        driven, key = DrivenCore.in_sync(), f"key-{number}"
        first = owner_of(driven, key)
        driven.registry_renews(set_of(6, B, C))
        if (A, B) == (first, owner_of(driven, key)):
            return key
    raise AssertionError("none of 100 keys passes from A to B")


def asks_to_be_listed(driven: DrivenCore) -> bool:
    """True if B asks the registry to be listed at its next tick."""
    driven.clear_effects()
    driven.after(0.01)
    return any(
        isinstance(ask.message, Admit) and ask.message.joiner == identity(B) for ask in driven.asked_registries(Admit)
    )


def admitted() -> DrivenCore:
    """B as a joiner in the set of A and C, before they have reported what they had at its admission."""
    driven = DrivenCore()
    driven.registry_renews(set_of(4, A, C), standing=Standing.OUTSIDE)
    driven.after(0.3)
    driven.peers_answer()
    driven.registry_renews(set_of(5, A, C, joining=[B], since=5), standing=Standing.JOINING)
    driven.clear_effects()
    return driven


def a_set_of_a_lower_term_is_not_believed() -> None:
    """A registry that does not have the newest set does not bring back an old one."""
    driven = DrivenCore.in_sync()
    driven.registry_renews(set_of(4, A, B))

    assert 5 == driven.core.in_sync.term


def a_member_tells_this_replica_that_it_was_fenced() -> None:
    """No registry is needed for that: waiting appends end as unknown, and clients are refused."""
    driven = DrivenCore.in_sync()
    driven.append()
    driven.beats(C, set_of(6, A, C))

    assert Phase.JOINING is driven.core.phase
    assert [AppendOutcome.UNKNOWN] == driven.outcomes()


def a_process_that_stood_still_serves_nothing_before_a_registry_has_answered() -> None:
    """Others may have fenced it, and acknowledged records that it lacks."""
    driven = DrivenCore.in_sync()
    assert driven.core.may_show({})
    driven.now_s += LATE_S
    driven.core.stood_still(LATE_S, driven.now_s)
    driven.append()
    assert not driven.core.may_show({})
    assert [AppendOutcome.REFUSED] == driven.outcomes()
    driven.registry_renews(set_of(5, A, B, C))

    assert driven.core.may_show({})


def a_joiner_is_listed_when_it_has_what_each_listed_replica_had() -> None:
    """Records that a replica which is not its source had, or was about to commit, count as well."""
    driven = admitted()
    in_sync = driven.core.in_sync
    assert not asks_to_be_listed(driven)
    driven.beats(A, in_sync, has={A: 1})
    driven.beats(C, in_sync, has={A: 1}, commits={C: 2})
    assert not asks_to_be_listed(driven)
    driven.replicates(A, term=5, origin=A, upto=1)
    driven.replicates(C, term=5, origin=C, upto=1)
    assert not asks_to_be_listed(driven)
    driven.replicates(C, term=5, origin=C, after=1, upto=2)

    assert asks_to_be_listed(driven)


def a_new_owner_waits_for_what_the_last_one_sent_to_another_member() -> None:
    """A decided about the key, reached only C, and died: B must not decide before it has what C has."""
    driven = DrivenCore.in_sync()
    survivors = set_of(6, B, C)
    driven.registry_renews(survivors)
    key = inherited_key()
    driven.append_keyed(key, number=2)
    assert [] == driven.effects_of(FindKey)
    driven.beats(C, survivors, has={A: 1})
    assert [] == driven.effects_of(FindKey)
    driven.replicates(C, term=6, origin=A, upto=1)

    assert [FindKey(key)] == driven.effects_of(FindKey)


def a_new_owner_waits_for_what_another_member_was_about_to_commit() -> None:
    """C received the record of A before it learned that A was fenced, and did not have it on its disk yet."""
    driven = DrivenCore.in_sync()
    survivors = set_of(6, B, C)
    driven.registry_renews(survivors)
    key = inherited_key()
    driven.append_keyed(key, number=2)
    driven.beats(C, survivors, commits={A: 1})
    assert [] == driven.effects_of(FindKey)
    driven.replicates(C, term=6, origin=A, upto=1)

    assert [FindKey(key)] == driven.effects_of(FindKey)


def records_of_a_fenced_sender_are_not_taken() -> None:
    """The answer carries the newer set, from which the sender learns that it is fenced."""
    driven = DrivenCore.in_sync()
    newer = set_of(6, B, C)
    driven.registry_renews(newer)
    reply = driven.replicates(A, term=5, origin=A, upto=1)

    assert isinstance(reply, Replicated)
    assert (0, newer) == (reply.upto, reply.in_sync)
    assert INCARNATION[A] not in driven.core.replica.pending


def a_renewal_for_another_start_of_the_registry_does_not_count() -> None:
    """It may have waited in a queue. The answer names the current start, and the sender renews again."""
    registry = InSyncDirectory(lambda: 0.0, itertools.count(1).__next__)
    renewal = Renew(node=A, incarnation=INCARNATION[A], registry=0, in_sync=set_of(5, A), ready=True)
    reply = registry.renew(renewal)
    assert (registry.id, Standing.STARTING) == (reply.registry, reply.standing)
    assert {} == registry.leases
    assert Standing.LISTED is registry.renew(msgspec.structs.replace(renewal, registry=reply.registry)).standing


CORE_SCHEDULES = (
    a_set_of_a_lower_term_is_not_believed,
    a_member_tells_this_replica_that_it_was_fenced,
    a_process_that_stood_still_serves_nothing_before_a_registry_has_answered,
    a_joiner_is_listed_when_it_has_what_each_listed_replica_had,
    a_new_owner_waits_for_what_the_last_one_sent_to_another_member,
    a_new_owner_waits_for_what_another_member_was_about_to_commit,
    records_of_a_fenced_sender_are_not_taken,
    a_renewal_for_another_start_of_the_registry_does_not_count,
)
