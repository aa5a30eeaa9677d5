"""Which logging nodes are in sync, and which of them clients are sent to. Pure: no sockets, and a clock that is given.

A registry keeps nothing on disk. When it starts it answers `starting` until each replica that a renewal names has
renewed, too, or for STARTING_S; then it takes the in-sync set that the replicas agree on. See DESIGN.md in
nodes/replication for the rules.
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

STARTING_S = LEASE_S  # a lease: whoever does not renew in it is not there
FIRST_RENEWALS_S = 1.2 * RENEWAL_S  # a renewal and a little: within it all that are alive renew for the first time
STANDSTILL_S = LEASE_S / 2  # what a registry knows is true for a lease: nobody is fenced without it earlier
REPLICAS = 1_000  # addresses that are remembered; one more is refused


@dataclass(frozen=True, slots=True)
class ReplicaLease:
    """What a replica said when it renewed last, and until when that counts."""

    ends_s: float
    since_s: float
    renewed_s: float
    renew: Renew

    @property
    def identity(self) -> Identity:
        """Address and incarnation of the replica."""
        return Identity(self.renew.node, self.renew.incarnation)


class InSyncDirectory:
    """The in-sync set and the leases of the logging nodes.

    Args:
        clock: seconds from any start.
        draw: a random number that no other start of a registry has.
        knows: True for the address of one of our nodes; others are not listed.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        draw: Callable[[], int],
        *,
        knows: Callable[[str], bool] = lambda _address: True,
    ) -> None:
        self._clock = clock
        self._draw = draw
        self._knows = knows
        self.leases: dict[str, ReplicaLease] = {}
        self.in_sync = NO_SET
        self._installed_s = float("-inf")
        self._contender: tuple[InSyncSet, float] | None = None  # of another side of a split, and since when
        self._seen_s = clock()
        self._begin()

    def _begin(self) -> None:
        """Know nothing but the set: wait for what the replicas say."""
        self.id = self._draw()
        self.starting = True
        self._began_s = self._clock()
        self._renewed: set[str] = set()

    def observe(self) -> None:
        """Notice that time has passed; called at least every quarter second, and before each answer."""
        now_s = self._clock()
        if now_s - self._seen_s > STANDSTILL_S:
            self._begin()
        self._seen_s = now_s
        if self.starting:
            self._end_start(now_s)
        elif self.in_sync.members and not any(self._is_there(one) for one in self.in_sync.listed):
            self._begin()

    def listed(self) -> tuple[str, ...] | None:
        """The addresses to which clients are sent; None while this registry starts."""
        self.observe()
        return None if self.starting else tuple(one.address for one in self._live())

    def _is_there(self, member: Member) -> bool:
        """True if the lease of a member has not lapsed."""
        lease = self.leases.get(member.address)
        return lease is not None and lease.ends_s > self._clock() and lease.renew.incarnation == member.incarnation

    def _live(self) -> list[Member]:
        return [one for one in self.in_sync.listed if self._is_there(one) and self.leases[one.address].renew.ready]

    # What replicas ask

    def handle(self, request: Renew | Fence | Admit | Bootstrap) -> Renewed:
        """Answer a replica."""
        match request:
            case Renew():
                return self.renew(request)
            case Fence():
                return self.fence(request)
            case Admit():
                return self.admit(request)
            case Bootstrap():
                return self.found(request)

    def renew(self, request: Renew) -> Renewed:
        """Renew the lease of a replica."""
        self.observe()
        if request.registry != self.id or not self._remember(request):
            return self._reply(request)
        if self.starting:
            self._renewed.add(request.node)
            self._end_start(self._clock())
        elif request.ready:
            self._take_newer(request)
        return self._reply(request)

    def fence(self, request: Fence) -> Renewed:
        """Take replicas out of the in-sync set, if the one that asks is a listed member."""
        self.observe()
        member = self.in_sync.find(Identity(request.node, request.incarnation))
        rest = tuple(one for one in self.in_sync.members if one.identity not in request.targets)
        if not self.starting and member and member.listed and len(rest) < len(self.in_sync.members):
            if any(one.listed for one in rest):
                self._install(rest)
            else:  # the last one leaves: the set stays, and nobody of it is there
                self.leases.pop(request.node, None)
        return self._reply(request)

    def admit(self, request: Admit) -> Renewed:
        """Take a joiner in, asked by a listed member; list it, asked by itself."""
        self.observe()
        member = self.in_sync.find(Identity(request.node, request.incarnation))
        if self.starting or not member:
            return self._reply(request)
        rest = [one for one in self.in_sync.members if one.address != request.joiner.address]
        term = self.in_sync.term + 1
        if member.identity == request.joiner:
            if not member.listed and member.since == request.since:  # else it was fenced and admitted again since
                self._install((*rest, Member(*request.joiner, since=member.since, listed=True)))
        elif member.listed and (request.joiner.address == member.address or not self.in_sync.find(request.joiner)):
            listed = request.joiner.address == member.address  # the same process with a new incarnation
            self._install((*rest, Member(*request.joiner, since=term, listed=listed)))
        return self._reply(request)

    def found(self, request: Bootstrap) -> Renewed:
        """Install a new in-sync set, if no member of the last one is left."""
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

    # Which set is the current one

    def _install(self, members: tuple[Member, ...]) -> None:
        self.in_sync = InSyncSet(self.in_sync.term + 1, tuple(sorted(members)))
        self._installed_s = self._clock()

    def _remember(self, request: Renew) -> bool:
        """Note a renewal; False if there are too many replicas, or it is not one of ours."""
        now_s = self._clock()
        for address in [address for address, lease in self.leases.items() if lease.ends_s + LEASE_S < now_s]:
            if not any(one.address == address for one in self.in_sync.members):
                del self.leases[address]
        known = self.leases.get(request.node)
        if not self._knows(request.node) or (known is None and len(self.leases) >= REPLICAS):
            return False
        same = known is not None and known.ends_s > now_s and known.renew.incarnation == request.incarnation
        since_s = known.since_s if known and same else now_s
        self.leases[request.node] = ReplicaLease(now_s + LEASE_S, since_s, now_s, request)
        return True

    def _end_start(self, now_s: float) -> None:
        """Take the set that the replicas hold, once all that they name have said what theirs is."""
        renews = [lease.renew for lease in self.leases.values() if lease.renew.node in self._renewed]
        ready = [renew for renew in renews if renew.ready]
        named = {one.address for renew in renews for one in renew.in_sync.members}
        waited_s = now_s - self._began_s
        complete = named <= self._renewed and (ready or waited_s >= FIRST_RENEWALS_S)
        if not complete and waited_s < STARTING_S:
            return
        self.starting = False
        for renew in ready:
            self._take_newer(renew)
        if not any(self._is_there(one) for one in self.in_sync.listed):
            self.in_sync = InSyncSet(self.in_sync.term, ())

    def _take_newer(self, request: Renew) -> None:
        """Take the set that a replica holds, if it is newer than the current one, or held by more replicas."""
        held, current = request.in_sync, self.in_sync
        own = Identity(request.node, request.incarnation)
        if held == current or not held.find(own):
            return
        if not current.members or (not self._live() and not current.find(own)):
            if held.term >= current.term:  # else it was fenced, and lacks what those acknowledged who are away now
                self._adopt(held)
        elif current.find(own) or not _apart(held, current):
            if held.term > current.term or (held.term == current.term and not self._holders(current)):
                self._adopt(held)
        elif self._holders(held) > len(self._live()):
            self._adopt(InSyncSet(max(held.term, current.term + 1), held.members))
        elif held.term >= current.term and not self._may_win(held):
            self._adopt(InSyncSet(held.term + 1, current.members))  # so that those who hold the other one give it up

    def _adopt(self, held: InSyncSet) -> None:
        self.in_sync = held

    def _may_win(self, held: InSyncSet) -> bool:
        """True while more replicas may be about to renew with this set than hold the current one."""
        if self._contender is None or self._contender[0] != held:
            self._contender = held, self._clock()
        waited_s = self._clock() - self._contender[1]
        return len(held.listed) > len(self._live()) and waited_s < FIRST_RENEWALS_S

    def _holders(self, in_sync: InSyncSet) -> int:
        """How many replicas have lately renewed with this set."""
        now_s = self._clock()
        return sum(
            lease.ends_s > now_s and lease.renew.ready and lease.renew.in_sync == in_sync
            for lease in self.leases.values()
        )


def _apart(one: InSyncSet, other: InSyncSet) -> bool:
    """True if each set has a replica that the other one lacks: a split, in which each side fenced the other."""
    first, second = ({member.address for member in found.members} for found in (one, other))
    return bool(first - second and second - first)
