"""Who is in sync: the in-sync set as registries and peers tell it, and the members that are fenced."""

from collections.abc import Sequence

from common.protocol.replication import (
    NO_SET,
    Admit,
    Fence,
    Heartbeat,
    Identity,
    InSyncSet,
    Join,
    Member,
    Renew,
    Renewed,
    ReplicaState,
    Standing,
)
from nodes.replication.core.effects import AppendOutcome, AskRegistries, RegistryRequest
from nodes.replication.core.joining import Joining
from nodes.replication.core.records import Records
from nodes.replication.core.state import Peer, Phase, Replica, merge


class Membership:
    """Keeps this replica in sync, or brings it there, and fences members that do not confirm.

    Args:
        replica: the state of this replica.
        records: its records.
        configured: host:port of every logging node in the configuration.

    Attributes:
        joiner: brings it into sync, and takes others in.
        renewed_s: when a registry may have received the last renewal.
    """

    def __init__(self, replica: Replica, records: Records, configured: Sequence[str]) -> None:
        self.replica = replica
        self._records = records
        self.joiner = Joining(replica, configured, self._ask)
        self._asking: dict[tuple[object, ...], float] = {}  # what the registries are asked now, and since when
        self.renewed_s = replica.now_s
        self._suspected_s: dict[str, float] = {}  # since when the member at an address is suspect
        self._next_renewal_s = replica.now_s
        self._cut_off = False  # no registry answered when a member was to be fenced

    def tick(self) -> None:
        """Do what is due."""
        replica = self.replica
        if replica.now_s >= self._next_renewal_s:
            self.renew()
        if replica.phase is Phase.JOINING:
            if not replica.leaving:
                self.joiner.seek()
        else:
            self._watch_members()
            self.joiner.admit_others()
        pause_s = replica.settings.retry_s if replica.suspended else replica.settings.heartbeat_s
        for peer in replica.members:
            peer.asked.clear()  # what is still waited for is asked again
            if replica.now_s - peer.contacted_s >= pause_s or peer.watermark_sent < replica.watermark:
                replica.heartbeat(peer)

    def renew(self) -> None:
        """Renew at the registries, unless a Fence is unanswered: a renewal would prolong the wait for the own lease.

        After `registry_s` renewals go on, because an answered Fence takes a while to reach the other registries.
        """
        replica = self.replica
        unanswered = replica.now_s - self._asking.get((Fence,), float("-inf")) < replica.settings.registry_s
        if (Renew,) in self._asking or self._cut_off or unanswered:
            return
        self._next_renewal_s = replica.now_s + replica.settings.heartbeat_s
        in_sync = replica.in_sync if replica.in_sync.members else replica.last or NO_SET
        self._ask(replica.renewal(in_sync))

    def suspend(self) -> None:
        """Ask the registries and the members whether this replica, which stood still, is still in sync."""
        replica = self.replica
        replica.suspended, replica.suspended_s = True, replica.now_s
        self._next_renewal_s = replica.now_s
        self.renew()
        for peer in replica.members:
            replica.heartbeat(peer)

    # The in-sync set

    def consider(self, in_sync: InSyncSet, teller: Identity | None) -> None:
        """Take note of an in-sync set that a member, or a registry (None), told."""
        replica = self.replica
        knows = teller is None or replica.in_sync.find(teller)
        if in_sync.find(replica.identity):
            if in_sync.term > replica.term:
                replica.adopting = in_sync
        elif knows and replica.member() and in_sync.members and in_sync.term >= replica.term:
            self.leave("this replica was fenced", in_sync.term)

    def adopted(self, in_sync: InSyncSet) -> None:
        """The set is stored: it is the current one from now on, unless this replica has left meanwhile."""
        replica = self.replica
        if in_sync.term <= replica.in_sync.term:
            return
        before, replica.in_sync, replica.last = replica.in_sync, in_sync, in_sync
        if replica.adopting and replica.adopting.term <= in_sync.term:
            replica.adopting = None
        for gone in before.members:
            if not in_sync.find(gone.identity):
                self.joiner.fenced(gone.identity)
                if gone.address != replica.own:
                    replica.heartbeat(replica.peer(gone.address))  # it may not know yet that it was fenced
        replica.members = [
            self._introduced(member, new=not before.find(member.identity))
            for member in in_sync.members
            if member.address != replica.own
        ]
        self._cut_off = False
        own = in_sync.find(replica.identity)
        if own and not own.listed and replica.phase is not Phase.JOINING:  # fenced, and admitted again meanwhile
            replica.phase = Phase.JOINING
            self._records.fail_appends(AppendOutcome.UNKNOWN, "this replica was fenced")
            self.joiner.admitted()
        if own and own.listed and replica.phase is Phase.JOINING:
            replica.phase = Phase.READY
            self._records.recheck()
        elif own and not before.find(replica.identity):
            self.joiner.admitted()
        for peer in replica.members:
            replica.compare(peer)
            replica.heartbeat(peer)
        self._next_renewal_s = replica.now_s
        self.renew()

    def _introduced(self, member: Member, *, new: bool) -> Peer:
        """Return the peer of a member; the barrier begins anew, and what a new member said as a joiner is forgotten."""
        peer = self.replica.peer_of(member.address, member.incarnation)
        peer.target = None
        if new:
            peer.left, peer.failed_s = False, None
        return peer

    def leave(self, reason: str, term: int = 0) -> None:
        """Leave the in-sync set: fenced, or on purpose."""
        replica = self.replica
        replica.in_sync = InSyncSet(max(term, replica.term), ())
        replica.adopting, replica.members, replica.phase = None, [], Phase.JOINING
        self._cut_off = False
        self.joiner.left()
        self._records.fail_appends(AppendOutcome.UNKNOWN, reason)
        for peer in replica.peers.values():
            peer.target = None

    # What peers say of themselves

    def joining(self, request: Join) -> ReplicaState:
        """A peer is not in sync and wants to be."""
        peer = self.replica.sender(request)
        peer.join, peer.join_s = request, self.replica.now_s
        peer.complete = True
        peer.left = self._has_left(request.in_sync)
        merge(peer.vector, request.vector)
        self.replica.compare(peer)
        return self.replica.report(complete=True)

    def beats(self, request: Heartbeat) -> ReplicaState:
        """A member of the same set tells how far it is."""
        peer = self.replica.sender(request)
        peer.complete = peer.complete or request.whole
        self._learn(peer, request)
        if request.wants_confirmed:
            self._records.wants_watermark(peer, dict(request.pending))
        return self.replica.report()

    def answered(self, request: Join | Heartbeat, state: ReplicaState, asked_s: float) -> None:
        """A peer has said how it is, asked at `asked_s`."""
        peer = self.replica.sender(state)
        peer.complete = peer.complete or isinstance(request, Join)
        whole = isinstance(request, Join) or request.whole
        peer.has_vector = peer.has_vector or (whole and request.incarnation == self.replica.incarnation)
        if state.in_sync == self.replica.in_sync:
            peer.agreed_s = asked_s
        self.replica.resume_if_all_agree()
        peer.state, peer.state_s = state, self.replica.now_s
        peer.left = self._has_left(state.in_sync)
        self._learn(peer, state)

    def _has_left(self, in_sync: InSyncSet) -> bool:
        """True if who says that this is its in-sync set is in none, and knows of the current term."""
        return not in_sync.members and in_sync.term >= self.replica.in_sync.term

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
        """Have the registries fence members that do not confirm."""
        replica, since_s = self.replica, self._suspected_s
        suspects = [peer for peer in replica.members if replica.suspects(peer)]
        self._suspected_s = {peer.address: since_s.get(peer.address, replica.now_s) for peer in suspects}
        if not suspects:
            self._cut_off = False
            return
        identities = tuple(one.identity for one in replica.in_sync.members if replica.peer(one.address) in suspects)
        self._ask(Fence(node=replica.own, incarnation=replica.incarnation, targets=identities))
        if self._cut_off and not replica.adopting:
            self._fence_alone(suspects)

    def _fence_alone(self, suspects: Sequence[Peer]) -> None:
        """No registry can be reached: go on when none can list this replica and the suspects side by side.

        Facades go on with the last list, so a short interruption must not part replicas that all of them reach.
        """
        replica = self.replica
        waited_s = replica.now_s - max(self.renewed_s, *self._suspected_s.values())
        ended = all(peer.refused or not replica.in_sync.find(peer.identity) for peer in suspects)
        if ended or waited_s >= replica.settings.lease_s:
            rest = tuple(one for one in replica.in_sync.members if replica.peer(one.address) not in suspects)
            if len(rest) < len(replica.in_sync.members):
                replica.adopting = InSyncSet(replica.in_sync.term + 1, rest)

    def reborn(self, incarnation: int) -> bool:
        """Use a stored incarnation; False if a registry must first replace the listed one by it."""
        replica = self.replica
        if replica.phase is Phase.READY:
            joiner = Identity(replica.own, incarnation)
            self._ask(Admit(node=replica.own, incarnation=replica.incarnation, joiner=joiner))
            return False
        replica.incarnation = incarnation
        self._records.reborn()
        return True

    def retire(self) -> None:
        """Leave the in-sync set: everything that was accepted is acknowledged."""
        own = self.replica.identity
        self._ask(Fence(node=own.address, incarnation=own.incarnation, targets=(own,)))

    # Registries

    def _ask(self, message: RegistryRequest) -> None:
        """Ask the registries, unless the same is under way."""
        if _kind(message) in self._asking:
            return
        self._asking[_kind(message)] = self.replica.now_s
        self.replica.effects.append(AskRegistries(message))

    def registry_answered(
        self, message: RegistryRequest, reply: Renewed | None, renewed_s: float, others: Sequence[Renewed]
    ) -> None:
        """A registry has answered, or none (None); see `Core.registry_answered`."""
        replica = self.replica
        asked_s = self._asking.pop(_kind(message), float("-inf"))
        self.renewed_s = replica.now_s if isinstance(message, Renew) and reply else max(renewed_s, self.renewed_s)
        if isinstance(message, Admit) and reply and self._is_renamed(message.joiner, reply):
            replica.incarnation = message.joiner.incarnation
            self._records.reborn()
        for one in (reply, *others) if reply else ():
            # Only the deciding one brings back a replica that has left: two that disagree would do so in turn.
            if one is reply or replica.member() or not one.in_sync.find(replica.identity):
                self._learn_registry(one, asked_s)
        if isinstance(message, Fence) and replica.identity in message.targets:
            if reply is None or (replica.leaving and replica.own not in reply.live):  # the set of the last one stays
                self.leave("this replica leaves")
        elif reply is None and isinstance(message, Fence) and replica.phase is not Phase.JOINING:  # or it has left
            self._cut_off = True

    def _is_renamed(self, joiner: Identity, reply: Renewed) -> bool:
        """True if a registry has replaced the incarnation of this replica by a new one."""
        renamed = joiner.address == self.replica.own and joiner != self.replica.identity
        return renamed and reply.in_sync.find(joiner) is not None

    def _learn_registry(self, reply: Renewed, asked_s: float) -> None:
        """Take note of what a registry says, asked at `asked_s`."""
        replica = self.replica
        self.joiner.learn(reply)
        self._cut_off = False
        if reply.standing is Standing.STARTING:
            return
        if asked_s >= replica.suspended_s:
            replica.suspended = False
        self.consider(reply.in_sync, None)
        if reply.standing is Standing.OUTSIDE and replica.member() and reply.in_sync.term >= replica.term:
            self.leave("this replica was fenced", reply.in_sync.term)


def _kind(message: RegistryRequest) -> tuple[object, ...]:
    """The key of a question; of each key, one question is under way at a time."""
    return (Admit, message.joiner) if isinstance(message, Admit) else (type(message),)
