"""Tests of registry.in_sync, with a clock that the tests move."""

import itertools

import pytest

from common.discovery.leases import LEASE_S
from common.protocol.replication import (
    NO_SET,
    Admit,
    Bootstrap,
    Fence,
    Identity,
    InSyncSet,
    Member,
    Renew,
    Renewed,
    Standing,
)
from registry.in_sync import FIRST_RENEWALS_S, REPLICAS, STANDSTILL_S, STARTING_S, InSyncDirectory

A, B, C, D = "a:1", "b:1", "c:1", "d:1"
INCARNATIONS = {A: 1, B: 2, C: 3, D: 4}
STEP_S = 0.25  # at most between two calls of `observe`


def member(address: str, *, since: int = 1, listed: bool = True) -> Member:
    """A member of an in-sync set."""
    return Member(address, INCARNATIONS[address], since, listed)


def set_of(term: int, *addresses: str) -> InSyncSet:
    """An in-sync set of listed members."""
    return InSyncSet(term, tuple(member(address) for address in addresses))


def identity(address: str) -> Identity:
    """The identity of the first process at an address."""
    return Identity(address, INCARNATIONS[address])


class World:
    """A registry, its clock, and the replicas that ask it."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.registry = InSyncDirectory(
            lambda: self.now_s, itertools.count(1).__next__, is_known=lambda address: address != "stranger:1"
        )

    def wait(self, seconds: float, *renewing: str, held: InSyncSet = NO_SET) -> None:
        """Advance the clock while the registry observes it, and while replicas that hold a set renew."""
        ends_s = self.now_s + seconds
        while self.now_s < ends_s:
            self.now_s = min(self.now_s + STEP_S, ends_s)
            self.registry.observe()
            for address in renewing:
                self.renew(address, held)

    def renew(
        self,
        address: str,
        held: InSyncSet = NO_SET,
        *,
        ready: bool = True,
        start: int | None = None,
        incarnation: int | None = None,
    ) -> Renewed:
        """Renew the lease of a replica that holds a set, for a start of the registry (by default the present one)."""
        return self.registry.renew(
            Renew(
                node=address,
                incarnation=INCARNATIONS.get(address, 9) if incarnation is None else incarnation,
                registry=self.registry.id if start is None else start,
                in_sync=held,
                ready=ready,
            )
        )

    def fence(self, asking: str, *targets: str) -> Renewed:
        """Fence replicas at the request of a member, or of the replica itself."""
        identities = tuple(map(identity, targets))
        return self.registry.fence(Fence(node=asking, incarnation=INCARNATIONS[asking], targets=identities))

    def admit(self, asking: str, joiner: str) -> Renewed:
        """Admit a joiner at the request of a member, or list it at its own request."""
        since = next((one.since for one in self.registry.in_sync.members if one.address == joiner), 0)
        return self.registry.admit(
            Admit(node=asking, incarnation=INCARNATIONS[asking], joiner=identity(joiner), since=since),
        )

    def found(self, *members: str, term: int = 0) -> Renewed:
        """Found a set of some replicas at the request of the first of them."""
        identities = tuple(map(identity, members))
        return self.registry.bootstrap(
            Bootstrap(node=members[0], incarnation=INCARNATIONS[members[0]], term=term, members=identities)
        )


@pytest.fixture
def world() -> World:
    """A registry that has just started."""
    return World()


@pytest.fixture
def three(world: World) -> World:
    """A registry that lists A, B and C, in term 5."""
    for address in (A, B, C):
        world.renew(address, set_of(5, A, B, C))
    assert (A, B, C) == world.registry.listed()
    return world


# The start


def test_a_starting_registry_waits_for_all_members_of_the_set(world: World) -> None:
    """Until then it answers `starting`, since one replica may hold a set that the others have replaced."""
    held = set_of(5, A, B, C)
    for address in (A, B):
        assert Standing.STARTING is world.renew(address, held).standing
        assert world.registry.listed() is None
    renewed = world.renew(C, held)
    assert (Standing.LISTED, held, (A, B, C)) == (renewed.standing, renewed.in_sync, renewed.live)
    assert (A, B, C) == world.registry.listed()


def test_a_starting_registry_waits_for_a_missing_member_for_one_lease(world: World) -> None:
    """A member that has not renewed by then is not listed."""
    held = set_of(5, A, B, C)
    world.wait(STARTING_S - STEP_S, A, B, held=held)
    assert world.registry.listed() is None
    world.wait(2 * STEP_S, A, B, held=held)
    assert (A, B) == world.registry.listed()


def test_a_starting_registry_takes_the_newest_set(world: World) -> None:
    """A replica that holds an older set gets the newest one in reply."""
    world.renew(A, set_of(6, A, B))
    world.renew(C, set_of(5, A, B, C))
    world.renew(B, set_of(6, A, B))
    assert (A, B) == world.registry.listed()
    renewed = world.renew(C, set_of(5, A, B, C))
    assert (Standing.OUTSIDE, set_of(6, A, B)) == (renewed.standing, renewed.in_sync)


def test_a_start_without_any_set_takes_one_heartbeat(world: World) -> None:
    """Afterwards replicas may found the first set."""
    world.renew(A, ready=False)
    world.wait(FIRST_RENEWALS_S - 0.1)
    assert Standing.STARTING is world.renew(A, ready=False).standing
    world.wait(0.2)
    assert Standing.OUTSIDE is world.renew(A, ready=False).standing
    assert () == world.registry.listed()


def test_a_starting_registry_changes_nothing(world: World) -> None:
    """It neither fences, nor admits, nor lets a set be founded."""
    world.renew(A, set_of(5, A, B))
    for reply in (world.fence(A, B), world.admit(A, D), world.found(A)):
        assert (Standing.STARTING, NO_SET, ()) == (reply.standing, reply.in_sync, reply.live)


def test_a_registry_that_stood_still_starts_again(three: World) -> None:
    """What it knew may be outdated, and renewals that waited in the meantime are for the former start."""
    before = three.registry.id
    three.now_s += STANDSTILL_S + 0.1
    assert three.registry.listed() is None
    assert before != three.registry.id
    assert Standing.STARTING is three.renew(A, set_of(5, A, B, C), start=before).standing
    for address in (A, B, C):
        three.renew(address, set_of(5, A, B, C))
    assert (A, B, C) == three.registry.listed()


# Leases


def test_a_member_whose_lease_lapsed_is_not_listed(three: World) -> None:
    """The set itself stays the same until a member has the missing one fenced."""
    held = set_of(5, A, B, C)
    three.wait(LEASE_S + STEP_S, A, B, held=held)
    assert (A, B) == three.registry.listed()
    assert held == three.registry.in_sync
    three.renew(C, held)
    assert (A, B, C) == three.registry.listed()


def test_a_member_that_is_not_ready_is_not_listed(three: World) -> None:
    """A member that is leaving, or not ready yet, still belongs to the set."""
    three.renew(B, set_of(5, A, B, C), ready=False)
    assert (A, C) == three.registry.listed()


def test_another_process_at_the_same_address_is_another_replica(three: World) -> None:
    """Another incarnation is outside the set, since it may have lost its disk."""
    renewed = three.renew(C, set_of(5, A, B, C), incarnation=33)
    assert Standing.OUTSIDE is renewed.standing
    assert (A, B) == three.registry.listed()


def test_only_known_nodes_are_remembered_and_their_number_is_limited(world: World) -> None:
    """With keys an address without one is unknown, and the leases take a limited amount of memory."""
    world.renew("stranger:1", ready=False)
    assert {} == world.registry.leases
    for number in range(REPLICAS + 1):
        world.renew(f"h:{number}", ready=False)
    assert REPLICAS == len(world.registry.leases)
    world.wait(2 * LEASE_S + STEP_S)
    world.renew("h:new", ready=False)  # lapsed leases make room
    assert ["h:new"] == list(world.registry.leases)


def test_the_term_is_kept_when_all_leases_have_lapsed(three: World) -> None:
    """No replica is listed, and a later set must have a higher term."""
    three.wait(2 * LEASE_S + STARTING_S)
    assert () == three.registry.listed()
    assert 5 <= three.registry.in_sync.term


# Fences


def test_a_member_can_fence_others(three: World) -> None:
    """The set without them has the next term, and their next renewals say that they are outside."""
    renewed = three.fence(A, B, C)
    assert (Standing.LISTED, set_of(6, A), (A,)) == (renewed.standing, renewed.in_sync, renewed.live)
    assert (A,) == three.registry.listed()
    late = three.renew(B, set_of(5, A, B, C))
    assert (Standing.OUTSIDE, set_of(6, A)) == (late.standing, late.in_sync)
    assert (A,) == three.registry.listed()


def test_a_replica_outside_the_set_fences_nobody(three: World) -> None:
    """Neither a stranger nor a replica that was fenced itself can fence a member."""
    three.renew(D)
    assert (Standing.OUTSIDE, 5) == (three.fence(D, A).standing, three.registry.in_sync.term)
    three.fence(A, B)
    assert Standing.OUTSIDE is three.fence(B, A).standing
    assert (A, C) == three.registry.listed()


def test_fencing_a_replica_twice_changes_nothing(three: World) -> None:
    """Several members may ask for the same fence at once, and the term rises once."""
    for asking in (A, B, A):
        assert set_of(6, A, B) == three.fence(asking, C).in_sync


def test_the_set_outlives_its_last_member(three: World) -> None:
    """No replica is listed, and the first one that returns finds the term of the set."""
    three.fence(A, B, C)
    three.fence(A, A)
    assert three.registry.listed() is None
    three.wait(FIRST_RENEWALS_S + STEP_S)
    assert () == three.registry.listed()
    assert 6 == three.registry.in_sync.term


# Joining


def test_a_member_admits_a_joiner_which_then_has_itself_listed(three: World) -> None:
    """Between the two steps the joiner confirms records, and clients are not sent to it."""
    three.fence(A, C)
    three.renew(C, set_of(5, A, B, C), ready=False)
    joining = InSyncSet(7, (member(A), member(B), member(C, since=7, listed=False)))
    assert joining == three.admit(B, C).in_sync
    renewed = three.renew(C, joining, ready=False)
    assert (Standing.JOINING, (A, B)) == (renewed.standing, renewed.live)

    listed = InSyncSet(8, (member(A), member(B), member(C, since=7)))
    admitted = three.admit(C, C)
    assert (Standing.LISTED, listed) == (admitted.standing, admitted.in_sync)
    three.renew(C, listed)
    assert (A, B, C) == three.registry.listed()


def test_only_a_listed_member_admits_a_joiner(three: World) -> None:
    """A replica outside the set cannot admit itself, and a joiner admits nobody else."""
    three.renew(D)
    assert Standing.OUTSIDE is three.admit(D, D).standing
    three.fence(A, C)
    three.admit(A, C)
    before = three.registry.in_sync
    assert before == three.admit(C, D).in_sync
    assert before == three.admit(A, C).in_sync  # C is joining already


def test_a_member_replaces_its_own_incarnation(three: World) -> None:
    """The only replica that is left stays listed when it begins a new incarnation after a full disk."""
    three.fence(A, B, C)
    renewed = three.registry.admit(Admit(node=A, incarnation=INCARNATIONS[A], joiner=Identity(A, 11)))
    assert InSyncSet(7, (Member(A, 11, 7, True),)) == renewed.in_sync


# Founding


def test_a_set_is_founded_only_if_no_member_has_a_lease(three: World) -> None:
    """Otherwise its founders would lack what the listed replicas acknowledge afterwards."""
    assert set_of(5, A, B, C) == three.found(D).in_sync
    three.wait(2 * LEASE_S + STARTING_S)
    for address in (C, D):
        three.renew(address, set_of(5, A, B, C), ready=False)
    founded = three.found(C, D, term=7).in_sync
    assert InSyncSet(8, (member(C, since=8), member(D, since=8))) == founded
    for address in (C, D):
        three.renew(address, founded)
    assert (C, D) == three.registry.listed()


def test_a_set_is_not_founded_twice(world: World) -> None:
    """Of two replicas that both want to found a set, the second one gets the first set and joins it."""
    world.wait(FIRST_RENEWALS_S + STEP_S)
    founded = world.found(A, B).in_sync
    assert founded == world.found(C).in_sync
    world.renew(A, founded)
    world.wait(FIRST_RENEWALS_S + STEP_S, A, held=founded)
    assert founded == world.found(C).in_sync


# Several registries, and splits


def test_a_registry_adopts_a_newer_set_of_a_member(three: World) -> None:
    """Another registry has decided about it, and an older set that another member still holds changes nothing."""
    newer = set_of(6, A, B)
    assert newer == three.renew(A, newer).in_sync
    assert newer == three.renew(B, set_of(5, A, B, C)).in_sync
    assert (A, B) == three.registry.listed()


def test_the_larger_side_of_a_split_stays(three: World) -> None:
    """The single replica on the other side gets a higher term than its own, and leaves."""
    alone, both = set_of(6, A), set_of(6, B, C)
    three.renew(A, alone)
    assert (A,) == three.registry.listed()
    three.renew(B, both)
    won = three.renew(C, both)
    assert (Standing.LISTED, set_of(7, B, C)) == (won.standing, won.in_sync)
    lost = three.renew(A, alone)
    assert (Standing.OUTSIDE, 7) == (lost.standing, lost.in_sync.term)
    three.renew(B, set_of(7, B, C))
    assert (B, C) == three.registry.listed()


def test_the_smaller_side_of_a_split_leaves_whatever_its_term(three: World) -> None:
    """If it has fenced more often, the term of the larger side is raised above its term."""
    both = set_of(6, B, C)
    for address in (B, C):
        three.renew(address, both)
    lost = three.renew(A, set_of(9, A))
    assert (Standing.OUTSIDE, set_of(10, B, C)) == (lost.standing, lost.in_sync)
    assert (B, C) == three.registry.listed()


def test_of_two_equal_sides_of_a_split_the_first_stays(world: World) -> None:
    """Both have what was acknowledged before the split, and the second one joins again."""
    for address in (A, B):
        world.renew(address, set_of(5, A, B))
    world.renew(A, set_of(6, A))
    lost = world.renew(B, set_of(6, B))
    assert (Standing.OUTSIDE, set_of(7, A)) == (lost.standing, lost.in_sync)


def test_a_larger_side_has_one_heartbeat_to_renew(three: World) -> None:
    """The first of its replicas is not sent away while the others may be about to renew."""
    three.renew(A, set_of(6, A))
    both = set_of(6, B, C)
    waiting = three.renew(B, both)
    assert (Standing.OUTSIDE, set_of(6, A)) == (waiting.standing, waiting.in_sync)
    three.wait(FIRST_RENEWALS_S + STEP_S, A, held=set_of(6, A))
    assert set_of(7, A) == three.renew(B, both).in_sync
