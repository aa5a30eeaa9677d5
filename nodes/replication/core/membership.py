"""Who is in sync: the in-sync set as registries and peers tell it, and the members that are fenced."""

from collections.abc import Sequence

from common.replication import (
    NO_SET,
    Admit,
    Fence,
    Heartbeat,
    Identity,
    InSyncSet,
    Join,
    Renew,
    Renewed,
    ReplicaState,
    Standing,
)
from nodes.replication.core.effects import Ask, Outcome, RegistryRequest
from nodes.replication.core.joining import Joining
from nodes.replication.core.records import Records
from nodes.replication.core.state import Peer, Phase, Replica, merge


class Membership:
    """Keeps this replica in sync, or brings it there, and fences members that do not confirm.

    Args:
        replica: the state of this replica.
        records: its records.
        configured: host:port of every logging node in the configuration.
    """

    def __init__(self, replica: Replica, records: Records, configured: Sequence[str]) -> None:
        self.replica = replica
        self._records = records
        self._joining = Joining(replica, configured, self._ask)
        self._asking: set[tuple[object, ...]] = set()  # what the registries are asked now
        self.renewed_s = replica.now_s  # when the last renewal was sent that a registry may have received
        self._fencing_s = float("-inf")  # when the registries were asked last to fence a member
        self._next_renewal_s = replica.now_s
        self._cut_off = False  # no registry answered when a member was to be fenced

    # Time

    def tick(self) -> None:
        """Do what is due."""
        replica = self.replica
        if replica.now_s >= self._next_renewal_s:
            self.renew()
        if replica.phase is Phase.JOINING:
            if not replica.leaving:
                self._joining.seek()
        else:
            self._watch_members()
            self._joining.admit_others()
        for peer in replica.members:
            if replica.now_s - peer.contacted_s >= replica.settings.heartbeat_s:
                replica.heartbeat(peer)

    def renew(self) -> None:
        """Renew at the registries, unless they do not answer a Fence: a renewal that one receives prolongs the wait.

        That holds for the first `registry_s` of a Fence, and when none has answered it. In between renewals go on: an
        answered Fence takes a while to reach the other registries, and the lease must not lapse meanwhile.
        """
        replica = self.replica
        unanswered = (Fence,) in self._asking and replica.now_s - self._fencing_s < replica.settings.registry_s
        if (Renew,) in self._asking or self._cut_off or unanswered:
            return
        self._next_renewal_s = replica.now_s + replica.settings.heartbeat_s
        in_sync = replica.in_sync if replica.in_sync.members else replica.last or NO_SET
        self._ask(replica.renewal(in_sync))

    # The in-sync set

    def consider(self, in_sync: InSyncSet, teller: Identity | None) -> None:
        """Take note of an in-sync set that a member, or a registry (None), told."""
        replica = self.replica
        if in_sync.find(replica.identity):
            if in_sync.term > replica.term:
                replica.adopting = in_sync
        elif (
            replica.member()
            and in_sync.members
            and in_sync.term >= replica.in_sync.term
            and (teller is None or replica.in_sync.find(teller))
        ):
            self.leave("this replica was fenced", in_sync.term)

    def adopted(self, in_sync: InSyncSet) -> None:
        """The set is stored: it is the current one from now on."""
        replica = self.replica
        before, replica.in_sync, replica.last = replica.in_sync, in_sync, in_sync
        if replica.adopting and replica.adopting.term <= in_sync.term:
            replica.adopting = None
        for gone in before.members:
            if not in_sync.find(gone.identity):
                self._joining.fenced(gone.identity)
        replica.members = []
        for member in in_sync.members:
            if member.address != replica.own:
                replica.members.append(self._introduced(member.address, member.incarnation))
        own = in_sync.find(replica.identity)
        if own and not own.listed and replica.phase is not Phase.JOINING:  # fenced, and admitted again meanwhile
            replica.phase = Phase.JOINING
            self._cut_off = False
            self._records.fail_appends(Outcome.UNKNOWN, "this replica was fenced")
            self._joining.admitted()
        if own and own.listed and replica.phase is Phase.JOINING:
            replica.phase = Phase.READY
            self._records.recheck()
        elif own and not before.find(replica.identity):
            self._joining.admitted()
        for peer in replica.members:
            replica.compare(peer)
            replica.heartbeat(peer)
        self._cut_off = False
        self.renew()

    def _introduced(self, address: str, incarnation: int) -> Peer:
        """The peer that is a member now; the barrier for what it had begins anew."""
        peer = self.replica.peer_of(address, incarnation)
        peer.target = None
        return peer

    def leave(self, reason: str, term: int = 0) -> None:
        """Leave the in-sync set: fenced, or on purpose."""
        replica = self.replica
        replica.in_sync = InSyncSet(max(term, replica.in_sync.term), ())
        replica.adopting = None
        replica.members = []
        replica.phase = Phase.JOINING
        self._cut_off = False
        self._joining.left()
        self._records.fail_appends(Outcome.UNKNOWN, reason)
        for peer in replica.peers.values():
            peer.target = None

    # What peers say of themselves

    def joining(self, request: Join) -> ReplicaState:
        """A peer is not in sync and wants to be."""
        peer = self._sender(request.node, request.incarnation)
        peer.join, peer.join_s = request, self.replica.now_s
        peer.complete = True
        peer.left = self._has_left(request.in_sync)
        merge(peer.vector, request.vector)
        self.replica.compare(peer)
        return self.replica.report(complete=True)

    def beats(self, request: Heartbeat) -> ReplicaState:
        """A member of the same set tells how far it is."""
        peer = self._sender(request.node, request.incarnation)
        self._learn(peer, request)
        return self.replica.report()

    def answered(self, peer: Peer, state: ReplicaState, *, complete: bool) -> None:
        """A peer has said how it is; `complete`: with its whole vector."""
        peer = self._sender(state.node, state.incarnation)
        peer.state, peer.state_s = state, self.replica.now_s
        peer.complete = peer.complete or complete
        peer.left = self._has_left(state.in_sync)
        self._learn(peer, state)

    def _has_left(self, in_sync: InSyncSet) -> bool:
        """True if who says that this is its in-sync set is in none, and knows of the current term."""
        return not in_sync.members and in_sync.term >= self.replica.in_sync.term

    def _sender(self, address: str, incarnation: int) -> Peer:
        """Return the peer that has sent a message: its process runs."""
        peer = self.replica.peer_of(address, incarnation)
        peer.refused = False
        return peer

    def _learn(self, peer: Peer, told: Heartbeat | ReplicaState) -> None:
        replica = self.replica
        merge(peer.vector, told.vector)
        self.consider(told.in_sync, peer.identity)
        if replica.in_sync.find(peer.identity):
            self._records.learn_watermark(told.incarnation, told.confirmed)
            if peer.target is None and told.in_sync.term >= replica.in_sync.term:
                peer.target = dict(peer.vector)
                merge(peer.target, told.pending)
        replica.compare(peer)
        if told.in_sync.term < replica.in_sync.term and peer in replica.members and isinstance(told, Heartbeat):
            peer.contacted_s = float("-inf")  # it does not know the current set yet

    # Members that do not confirm

    def _watch_members(self) -> None:
        if suspects := [peer for peer in self.replica.members if self._is_suspect(peer)]:
            self._fence(suspects)
        else:
            self._cut_off = False

    def _is_suspect(self, peer: Peer) -> bool:
        replica = self.replica
        oldest_s = next(iter(peer.unanswered.values()), replica.now_s)
        return (
            peer.left
            or not peer.connected
            or replica.now_s - oldest_s > replica.settings.confirm_s
            or not replica.in_sync.find(peer.identity)
            or (peer.failed_s is not None and replica.now_s - peer.failed_s > replica.settings.confirm_s)
        )

    def _fence(self, suspects: Sequence[Peer]) -> None:
        replica = self.replica
        targets = {peer.address for peer in suspects}
        identities = tuple(one.identity for one in replica.in_sync.members if one.address in targets)
        fence = Fence(node=replica.own, incarnation=replica.incarnation, targets=identities)
        if (Fence,) not in self._asking:
            self._fencing_s = replica.now_s
        self._ask(fence)
        if self._cut_off:
            self._fence_alone(fence)

    def _fence_alone(self, message: Fence) -> None:
        """No registry can be reached: go on when none can list this replica and the targets side by side."""
        replica = self.replica
        gone = all(replica.peer(target.address).refused for target in message.targets)
        if (gone or replica.now_s - self.renewed_s >= replica.settings.lease_s) and not replica.adopting:
            rest = tuple(one for one in replica.in_sync.members if one.identity not in message.targets)
            if len(rest) < len(replica.in_sync.members):
                replica.adopting = InSyncSet(replica.in_sync.term + 1, rest)

    def reborn(self, incarnation: int) -> bool:
        """A new incarnation is stored; True if it is the current one from now on.

        The only replica that is listed stays so: the registry replaces its incarnation first.
        """
        replica = self.replica
        if replica.phase is Phase.READY:
            joiner = Identity(replica.own, incarnation)
            self._ask(Admit(node=replica.own, incarnation=replica.incarnation, joiner=joiner))
            return False
        self.replica.incarnation = incarnation
        self._records.reborn()
        return True

    def retire(self) -> None:
        """Leave the in-sync set: everything that was accepted is acknowledged."""
        self._ask(Fence(node=self.replica.own, incarnation=self.replica.incarnation, targets=(self.replica.identity,)))

    def why_joining(self) -> str:
        """What this replica waits for before it is listed, in one sentence."""
        return self._joining.why_joining()

    # Registries

    def _ask(self, message: RegistryRequest) -> None:
        """Ask the registries, unless the same is under way."""
        if _kind(message) in self._asking:
            return
        self._asking.add(_kind(message))
        self.replica.effects.append(Ask(message))

    def registry_answered(self, message: RegistryRequest, reply: Renewed | None, renewed_s: float) -> None:
        """A registry has answered, or none (None); see `Core.registry_answered`."""
        replica = self.replica
        self._asking.discard(_kind(message))
        self.renewed_s = max(renewed_s, self.renewed_s)
        if isinstance(message, Admit) and reply and message.joiner.address == replica.own:
            self._take_incarnation(message.joiner, reply)
        if reply is not None:
            self.learn(reply)
        elif isinstance(message, Fence) and replica.identity in message.targets:
            self.leave("this replica leaves")
        elif isinstance(message, Fence) and replica.phase is not Phase.JOINING:  # else it has left since it asked
            self._cut_off = True
            self._fence_alone(message)

    def _take_incarnation(self, joiner: Identity, reply: Renewed) -> None:
        """Take on a new incarnation that a registry has put in the place of the last one."""
        if reply.in_sync.find(joiner) and joiner != self.replica.identity:
            self.replica.incarnation = joiner.incarnation
            self._records.reborn()

    def learn(self, reply: Renewed) -> None:
        """Take note of what a registry says."""
        replica = self.replica
        self._joining.learn(reply)
        self._cut_off = replica.suspended = False
        if reply.standing is Standing.STARTING:
            return
        self.consider(reply.in_sync, None)
        if reply.standing is Standing.OUTSIDE and replica.member() and reply.in_sync.term >= replica.term:
            self.leave("this replica was fenced", reply.in_sync.term)


def _kind(message: RegistryRequest) -> tuple[object, ...]:
    """By which it is told whether the same is asked already."""
    return (Admit, message.joiner) if isinstance(message, Admit) else (type(message),)
