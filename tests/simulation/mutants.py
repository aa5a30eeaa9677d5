"""`python -m tests.simulation.mutants`: breaks one rule at a time, and counts the seeds of the simulator that find it.

Each mutant replaces one method of the core, of the registry or of the simulated disk by a wrong one. `shown_by` is a
seed, a scripted schedule, or a test of one core or registry; `test_simulation.py` holds each mutant to it. A test
guards a rule whose order of events the simulated network makes too rarely, or that a second rule covers
as well.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import click
import msgspec

from common.protocol.replication import Admit, InSyncSet, Member, Renew, Renewed
from nodes.replication.core.claims import Claims
from nodes.replication.core.effects import AppendOutcome, FinishAppend, Range
from nodes.replication.core.joining import Joining
from nodes.replication.core.machine import Core
from nodes.replication.core.membership import Membership
from nodes.replication.core.records import Records
from nodes.replication.core.state import Phase, Replica
from nodes.storage.memory import MemoryTables
from nodes.storage.protocol import Claim
from registry.in_sync import InSyncDirectory
from tests.simulation import schedules
from tests.simulation.faults import run
from tests.simulation.system.node import SimulatedNode
from tests.support.nodes import core_schedules

SEEDS = 300
PROCESSES = 2


@dataclass(frozen=True)
class Mutant:
    """A rule that is broken.

    Attributes:
        rule: what the mutant does not do.
        kind: whose method is replaced.
        method: its name.
        wrong: makes the wrong method of the right one.
        shown_by: a seed of the simulator, or a test, that shows it.
    """

    rule: str
    kind: type
    method: str
    wrong: Callable[[Callable[..., Any]], Callable[..., Any]]
    shown_by: int | Callable[[], None]

    def is_found(self, *, apply: bool) -> bool:
        """True if what shows this mutant fails, with the rule broken or whole."""
        with self.applied() if apply else nullcontext():
            if isinstance(self.shown_by, int):
                return _is_found(self.shown_by)
            try:
                self.shown_by()
            except AssertionError:
                return True
            return False

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The rule is broken while the block runs."""
        right = self.kind.__dict__[self.method]
        setattr(self.kind, self.method, self.wrong(right))
        try:
            yield
        finally:
            setattr(self.kind, self.method, right)


def _without_a_peer(advance: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(records: Records) -> None:
        replica = records.replica
        members, replica.members = replica.members, replica.members[1:]
        advance(records)
        replica.members = members

    return wrong


def _before_the_disk(advance: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(records: Records) -> None:
        replica = records.replica
        own = replica.incarnation
        have = replica.vector.get(own, 0)
        replica.vector[own] = replica.pending.get(own, 0)
        advance(records)
        replica.vector[own] = have

    return wrong


def _fence_without_asking(watch_members: Callable[..., Any]) -> Callable[..., Any]:
    del watch_members

    def wrong(membership: Membership) -> None:
        replica = membership.replica
        gone = {peer.address for peer in replica.members if replica.suspects(peer)}
        if gone and not replica.adopting:
            rest = tuple(one for one in replica.in_sync.members if one.address not in gone)
            replica.adopting = InSyncSet(replica.in_sync.term + 1, rest)

    return wrong


def _records_after_the_vector(commit: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(tables: MemoryTables, ranges: Sequence[Range], in_sync: InSyncSet | None) -> None:
        kept = [Range(one.origin, one.after, one.upto, () if one.upto % 97 == 0 else one.records) for one in ranges]
        commit(tables, kept, in_sync)

    return wrong


def _believe_any_term(consider: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(membership: Membership, in_sync: InSyncSet, teller: object) -> None:
        replica = membership.replica
        if in_sync.find(replica.identity) and in_sync.term < replica.in_sync.term and not replica.adopting:
            replica.in_sync = replica.in_sync._replace(term=in_sync.term - 1)  # or `adopted` would refuse it, too
            replica.adopting = in_sync
        else:
            consider(membership, in_sync, teller)

    return wrong


def _serve_when_admitted(adopted: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(membership: Membership, in_sync: InSyncSet) -> None:
        adopted(membership, in_sync)
        replica = membership.replica
        if replica.member() and replica.can_serve and replica.phase is Phase.JOINING:
            replica.phase = Phase.READY

    return wrong


def _one_incarnation(draw: Callable[..., Any]) -> Callable[..., Any]:
    del draw

    def wrong(node: SimulatedNode) -> int:
        return 1 + sum(map(ord, node.address))

    return wrong


def _known_key_at_once(decide: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(claims: Claims, append: Any, message_id: str, digest: str) -> None:
        if message_id and digest == append.digest:
            claims.replica.effects.append(FinishAppend(append.token, AppendOutcome.STORED, message_id))
        else:
            decide(claims, append, message_id, digest)

    return wrong


def _keep_the_incarnation(commit_failed: Callable[..., Any]) -> Callable[..., Any]:
    del commit_failed

    def wrong(core: Core, reason: str, now_s: float) -> None:
        core.replica.now_s = now_s
        core._committing = None
        core.records.discard()
        core.records.fail_appends(AppendOutcome.UNKNOWN, reason)

    return wrong


def _list_when_admitted(admit: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(registry: InSyncDirectory, request: Admit) -> Renewed:
        reply: Renewed = admit(registry, request)
        members = tuple(
            Member(one.address, one.incarnation, one.since, listed=True) for one in registry.in_sync.members
        )
        registry.in_sync = InSyncSet(registry.in_sync.term, members)
        return reply

    return wrong


def _no_start(end_start: Callable[..., Any]) -> Callable[..., Any]:
    del end_start

    def wrong(registry: InSyncDirectory, now_s: float) -> None:
        del now_s
        registry.starting = False

    return wrong


def _take_any_set(take_newer: Callable[..., Any]) -> Callable[..., Any]:
    del take_newer

    def wrong(registry: InSyncDirectory, request: Renew) -> None:
        registry.in_sync = request.in_sync

    return wrong


def _never(value: object) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A method that returns the same, whatever it is asked."""
    return lambda _right: lambda *_args, **_named: value


def _do_nothing(right: Callable[..., Any]) -> Callable[..., Any]:
    del right
    return lambda *_args, **_named: None


def _no_wait_for_the_lease(fence_alone: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(membership: Membership, suspects: Any) -> None:
        long_ago_s = float("-inf")
        membership.renewed_s = long_ago_s
        membership._suspected_s = dict.fromkeys(membership._suspected_s, long_ago_s)
        fence_alone(membership, suspects)

    return wrong


def _found_alone(found: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(joining: Joining) -> None:
        joining.none_listed_since_s = float("-inf")
        for peer in joining.replica.peers.values():
            peer.state = None
        found(joining)

    return wrong


def _registries_alone(consider: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(membership: Membership, in_sync: InSyncSet, teller: object) -> None:
        if teller is None:
            consider(membership, in_sync, teller)

    return wrong


def _listed_at_once(is_complete: Callable[..., Any]) -> Callable[..., Any]:
    del is_complete
    return lambda joining: joining.replica.can_serve and bool(joining.replica.in_sync.listed)


def _without_pending(learn: Callable[..., Any]) -> Callable[..., Any]:
    return lambda membership, peer, said: learn(membership, peer, msgspec.structs.replace(said, pending=()))


def _take_from_the_fenced(receive: Callable[..., Any]) -> Callable[..., Any]:
    return lambda records, token, request: receive(records, token, msgspec.structs.replace(request, term=0))


def _any_start(renew: Callable[..., Any]) -> Callable[..., Any]:
    return lambda registry, request: renew(registry, msgspec.structs.replace(request, registry=registry.id))


WITHOUT_REGISTRY = schedules.without_a_registry_a_hung_peer_is_waited_for_as_long_as_it_may_be_listed
EMPTY_DISK = schedules.one_of_three_with_an_empty_disk_waits_for_the_others
DIED_FIRST = schedules.the_first_to_die_does_not_serve_without_later_acknowledged_records
REGISTRY_STARTS = schedules.a_starting_registry_lists_nobody_before_all_replicas_have_renewed
SPLIT = schedules.both_sides_of_a_split_are_united
OTHER_START = core_schedules.a_renewal_for_another_start_of_the_registry_does_not_count

MUTANTS = (
    Mutant("a member need not confirm", Records, "advance", _without_a_peer, 3),
    Mutant("the own disk need not confirm", Records, "advance", _before_the_disk, 4),
    Mutant(
        "members are dropped without a registry", Membership, "_watch_members", _fence_without_asking, WITHOUT_REGISTRY
    ),
    Mutant("records and vector are not one transaction", MemoryTables, "commit", _records_after_the_vector, 2),
    Mutant(
        "a set of a lower term is believed",
        Membership,
        "consider",
        _believe_any_term,
        core_schedules.a_set_of_a_lower_term_is_not_believed,
    ),
    Mutant("a joiner serves before it has everything", Membership, "adopted", _serve_when_admitted, 0),
    Mutant("an incarnation is used again", SimulatedNode, "_draw", _one_incarnation, 2),
    Mutant("reads show what is not confirmed", Records, "is_stable", _never(value=True), 0),
    Mutant("a known key is answered at once", Claims, "_decide", _known_key_at_once, 1),
    Mutant("two messages with one key both stay", Claim, "yields_to", _never(value=False), 61),
    Mutant("survivors do not exchange what a dead peer sent", Replica, "add_missing_origins", _do_nothing, DIED_FIRST),
    Mutant("after a failed commit the numbers are used again", Core, "commit_failed", _keep_the_incarnation, 21),
    Mutant(
        "without a registry nobody waits for the lease",
        Membership,
        "_fence_alone",
        _no_wait_for_the_lease,
        WITHOUT_REGISTRY,
    ),
    Mutant(
        "who starts first does not wait for the others",
        Joining,
        "_bootstrap",
        _found_alone,
        EMPTY_DISK,
    ),
    Mutant("a joiner is listed when it is admitted", InSyncDirectory, "admit", _list_when_admitted, 27),
    Mutant(
        "a registry answers before it knows who is in sync", InSyncDirectory, "_end_start", _no_start, REGISTRY_STARTS
    ),
    Mutant(
        "a registry takes whatever set it is told",
        InSyncDirectory,
        "_take_newer",
        _take_any_set,
        SPLIT,
    ),
    Mutant(
        "a member's word about the set does not count",
        Membership,
        "consider",
        _registries_alone,
        core_schedules.a_member_tells_this_replica_that_it_was_fenced,
    ),
    Mutant(
        "a joiner need not have what each listed replica had",
        Joining,
        "_is_complete",
        _listed_at_once,
        core_schedules.a_joiner_is_listed_when_it_has_what_each_listed_replica_had,
    ),
    Mutant(
        "a new owner of a key does not wait for what the others have",
        Claims,
        "may_decide",
        _never(value=True),
        core_schedules.a_new_owner_waits_for_what_the_last_one_sent_to_another_member,
    ),
    Mutant(
        "nobody tells what it is about to commit",
        Membership,
        "_learn",
        _without_pending,
        core_schedules.a_new_owner_waits_for_what_another_member_was_about_to_commit,
    ),
    Mutant(
        "records of a fenced sender are taken",
        Records,
        "receive",
        _take_from_the_fenced,
        core_schedules.records_of_a_fenced_sender_are_not_taken,
    ),
    Mutant(
        "a process that stood still goes on as if it had not",
        Core,
        "stood_still",
        _do_nothing,
        core_schedules.a_process_that_stood_still_serves_nothing_before_a_registry_has_answered,
    ),
    Mutant("a renewal for an earlier start of a registry counts", InSyncDirectory, "renew", _any_start, OTHER_START),
)


def first_seed(mutant: Mutant, seeds: Sequence[int]) -> int | None:
    """The first seed that shows the mutant; None if none of them does."""
    with mutant.applied():
        return next((seed for seed in seeds if _is_found(seed)), None)


def _is_found(seed: int) -> bool:
    """True if the run breaks a promise; a mutant that breaks the simulation itself is found, too."""
    try:
        return bool(run(seed).problems)
    except Exception:  # whatever broke, the mutant shows
        return True


def _count(number: int, seeds: Sequence[int]) -> tuple[int, int | None]:
    """In how many of the seeds a mutant is found, and the first of these."""
    with MUTANTS[number].applied():
        found = [seed for seed in seeds if _is_found(seed)]
    return len(found), found[0] if found else None


@click.command()
@click.option("--seeds", default=SEEDS, show_default=True, help="Runs of each mutant.")
def main(seeds: int) -> None:
    """Print in how many runs each mutant is found."""
    with ProcessPoolExecutor(os.cpu_count() or PROCESSES) as processes:
        counts = processes.map(_count, range(len(MUTANTS)), [range(seeds)] * len(MUTANTS))
        for mutant, (count, first) in zip(MUTANTS, counts, strict=True):
            shown_by = getattr(mutant.shown_by, "__name__", f"seed {mutant.shown_by}")
            click.echo(f"{count:4} of {seeds}, first {first}: {mutant.rule}; shown by {shown_by}")


if __name__ == "__main__":
    main()
