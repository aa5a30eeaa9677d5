"""The in-sync set of the logging nodes, and which of them lookups return. Pure: no sockets; the clock is injected.

A registry keeps nothing on disk. After its start it answers `starting` until every replica in the renewed in-sync sets
has renewed, or for STARTING_S; then it adopts the in-sync set of the replicas. The rules are in
nodes/replication/DESIGN.md.
"""

from collections.abc import Callable
from dataclasses import dataclass

from common.discovery.leases import LEASE_S, RENEWAL_S
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

STARTING_S = LEASE_S  # a replica that does not renew within one lease is not running
FIRST_RENEWALS_S = 1.2 * RENEWAL_S  # every live replica renews within a renewal interval and a margin
# A registry that was suspended for longer starts again. Its set stays valid for one lease, because no replica can be
# fenced without this registry earlier.
STANDSTILL_S = LEASE_S / 2
REPLICAS = 1_000  # limit on the leases, to bound the memory; one more is refused


@dataclass(frozen=True, slots=True)
class ReplicaLease:
    """The lease of a replica; times are in seconds of the clock.

    Attributes:
        ends_s: when the lease ends.
        renewed_s: when it last renewed.
        renew: the last renewal.
    """

    ends_s: float
    renewed_s: float
    renew: Renew

    @property
    def identity(self) -> Identity:
        """The address and incarnation of the replica."""
        return Identity(self.renew.node, self.renew.incarnation)


class InSyncDirectory:
    """The in-sync set and the leases of the logging nodes.

    Args:
        clock: the current time in seconds, from any start.
        draw: returns a random number that identifies one start of a registry.
        is_known: True for the address of a known node; renewals of others are ignored.

    Attributes:
        id: the random number of this start.
        starting: True until the set of the replicas is adopted after the start.
        leases: the last renewal by address, also of lapsed leases.
        in_sync: the current in-sync set.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        draw: Callable[[], int],
        *,
        is_known: Callable[[str], bool] = lambda _address: True,
    ) -> None:
        self._clock = clock
        self._draw = draw
        self._is_known = is_known
        self.leases: dict[str, ReplicaLease] = {}
        self.in_sync = NO_SET
        self._installed_s = float("-inf")
        self._contender: tuple[InSyncSet, float] | None = None  # the set of the other side of a split, and since when
        self._observed_s = clock()
        self._begin_start()

    def _begin_start(self) -> None:
        """Draw a new id, keep the set, and wait for the renewals of the replicas."""
        self.id = self._draw()
        self.starting = True
        self._starting_since_s = self._clock()
        self._renewed: set[str] = set()  # addresses that have renewed since this start

    def observe(self) -> None:
        """Check leases and detect a standstill; must be called at least every 0.25 s, and is before each answer."""
        now_s = self._clock()
        if now_s - self._observed_s > STANDSTILL_S:
            self._begin_start()
        self._observed_s = now_s
        if self.starting:
            self._end_start(now_s)
        elif self.in_sync.members and not any(self._has_lease(one) for one in self.in_sync.listed):
            self._begin_start()

    def listed(self) -> tuple[str, ...] | None:
        """The addresses that lookups return to clients; None while this registry starts."""
        self.observe()
        return None if self.starting else tuple(one.address for one in self._live())

    def _has_lease(self, member: Member) -> bool:
        """True if the lease of this incarnation of a member has not lapsed."""
        lease = self.leases.get(member.address)
        return lease is not None and lease.ends_s > self._clock() and lease.renew.incarnation == member.incarnation

    def _live(self) -> list[Member]:
        """The listed members with a lease that serve clients."""
        return [one for one in self.in_sync.listed if self._has_lease(one) and self.leases[one.address].renew.ready]

    # Requests of replicas

    def handle(self, request: Renew | Fence | Admit | Bootstrap) -> Renewed:
        """Answer a request of a replica."""
        match request:
            case Renew():
                return self.renew(request)
            case Fence():
                return self.fence(request)
            case Admit():
                return self.admit(request)
            case Bootstrap():
                return self.bootstrap(request)

    def renew(self, request: Renew) -> Renewed:
        """Renew the lease of a replica, and adopt its in-sync set if that is newer."""
        self.observe()
        if request.registry != self.id or not self._store_renewal(request):
            return self._reply(request)
        if self.starting:
            self._renewed.add(request.node)
            self._end_start(self._clock())
        elif request.ready:
            self._take_newer(request)
        return self._reply(request)

    def fence(self, request: Fence) -> Renewed:
        """Remove replicas from the in-sync set, if the sender is a listed member."""
        self.observe()
        member = self.in_sync.find(Identity(request.node, request.incarnation))
        rest = tuple(one for one in self.in_sync.members if one.identity not in request.targets)
        if not self.starting and member and member.listed and len(rest) < len(self.in_sync.members):
            if any(one.listed for one in rest):
                self._install(rest)
            else:  # the last replica leaves: keep the set without any live member
                self.leases.pop(request.node, None)
        return self._reply(request)

    def admit(self, request: Admit) -> Renewed:
        """Add a joiner at the request of a listed member; list it at its own request."""
        self.observe()
        member = self.in_sync.find(Identity(request.node, request.incarnation))
        if self.starting or not member:
            return self._reply(request)
        rest = [one for one in self.in_sync.members if one.address != request.joiner.address]
        term = self.in_sync.term + 1
        if member.identity == request.joiner:
            # Another `since` means that it was fenced and added again in the meantime.
            if not member.listed and member.since == request.since:
                self._install((*rest, Member(*request.joiner, since=member.since, listed=True)))
        elif member.listed and (request.joiner.address == member.address or not self.in_sync.find(request.joiner)):
            listed = request.joiner.address == member.address  # the process has a new incarnation
            self._install((*rest, Member(*request.joiner, since=term, listed=listed)))
        return self._reply(request)

    def bootstrap(self, request: Bootstrap) -> Renewed:
        """Install a new in-sync set, if no member of the last one is live."""
        self.observe()
        installed_s = self._clock() - self._installed_s
        if request.members and not self.starting and not self._live() and installed_s >= FIRST_RENEWALS_S:
            term = max(self.in_sync.term, request.term)
            self.in_sync = InSyncSet(term, ())
            self._install(tuple(Member(*one, since=term + 1, listed=True) for one in request.members))
        return self._reply(request)

    def _reply(self, request: Renew | Fence | Admit | Bootstrap) -> Renewed:
        member = self.in_sync.find(Identity(request.node, request.incarnation))
        standing = Standing.OUTSIDE if member is None else Standing.LISTED if member.listed else Standing.JOINING
        return Renewed(
            registry=self.id,
            standing=Standing.STARTING if self.starting else standing,
            in_sync=self.in_sync,
            live=() if self.starting else tuple(one.address for one in self._live()),
        )

    # The choice of the current set

    def _install(self, members: tuple[Member, ...]) -> None:
        self.in_sync = InSyncSet(self.in_sync.term + 1, tuple(sorted(members)))
        self._installed_s = self._clock()

    def _store_renewal(self, request: Renew) -> bool:
        """Store a renewal; False if the address is unknown, or there are too many leases."""
        now_s = self._clock()
        for address in [address for address, lease in self.leases.items() if lease.ends_s + LEASE_S < now_s]:
            if not any(one.address == address for one in self.in_sync.members):
                del self.leases[address]
        last = self.leases.get(request.node)
        if not self._is_known(request.node) or (last is None and len(self.leases) >= REPLICAS):
            return False
        self.leases[request.node] = ReplicaLease(now_s + LEASE_S, now_s, request)
        return True

    def _end_start(self, now_s: float) -> None:
        """Adopt the newest set of the replicas, once all members of their sets have renewed, or after STARTING_S."""
        renews = [lease.renew for lease in self.leases.values() if lease.renew.node in self._renewed]
        ready = [renew for renew in renews if renew.ready]
        named = {one.address for renew in renews for one in renew.in_sync.members}
        waited_s = now_s - self._starting_since_s
        complete = named <= self._renewed and (ready or waited_s >= FIRST_RENEWALS_S)
        if not complete and waited_s < STARTING_S:
            return
        self.starting = False
        for renew in ready:
            self._take_newer(renew)
        if not any(self._has_lease(one) for one in self.in_sync.listed):
            self.in_sync = InSyncSet(self.in_sync.term, ())

    def _take_newer(self, request: Renew) -> None:
        """Adopt the set of a replica, if it is newer than the current set, or the larger side of a split holds it."""
        held, current = request.in_sync, self.in_sync
        own = Identity(request.node, request.incarnation)
        if held == current or not held.find(own):
            return
        if not current.members or (not self._live() and not current.find(own)):
            # With a lower term it was fenced, and lacks records that the current members have acknowledged.
            if held.term >= current.term:
                self._adopt(held)
        elif current.find(own) or not _is_split(held, current):
            if held.term > current.term or (held.term == current.term and not self._holders(current)):
                self._adopt(held)
        elif self._holders(held) > len(self._live()):
            self._adopt(InSyncSet(max(held.term, current.term + 1), held.members))
        elif held.term >= current.term and not self._may_win(held):
            # The higher term makes the other side give up its set.
            self._adopt(InSyncSet(held.term + 1, current.members))

    def _adopt(self, held: InSyncSet) -> None:
        self.in_sync = held

    def _may_win(self, held: InSyncSet) -> bool:
        """True while a set with more listed members than are live now may still get their renewals."""
        if self._contender is None or self._contender[0] != held:
            self._contender = held, self._clock()
        waited_s = self._clock() - self._contender[1]
        return len(held.listed) > len(self._live()) and waited_s < FIRST_RENEWALS_S

    def _holders(self, in_sync: InSyncSet) -> int:
        """The number of ready replicas with a lease whose last renewal has this set."""
        now_s = self._clock()
        return sum(
            lease.ends_s > now_s and lease.renew.ready and lease.renew.in_sync == in_sync
            for lease in self.leases.values()
        )


def _is_split(one: InSyncSet, other: InSyncSet) -> bool:
    """True if each set has a replica that the other lacks: the network was split, and each side fenced the other."""
    first, second = ({member.address for member in in_sync.members} for in_sync in (one, other))
    return bool(first - second and second - first)
