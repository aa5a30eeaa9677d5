"""Membership: adopts in-sync sets from registries and peers, renews the lease, and fences members that fail."""

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
    """Keeps or brings this replica into the in-sync set, and fences members that do not confirm.

    Args:
        replica: the state of this replica.
        records: its records.
        configured: host:port of every logging node in the configuration.

    Attributes:
        joiner: brings this replica into sync, and has joiners admitted.
        renewed_s: when the last renewal that a registry may have received was sent.
    """

    def __init__(self, replica: Replica, records: Records, configured: Sequence[str]) -> None:
        self.replica = replica
        self._records = records
        self.joiner = Joining(replica, configured, self._ask)
        self._asked_s: dict[tuple[object, ...], float] = {}  # when each unanswered request to the registries was sent
        self.renewed_s = replica.now_s
        self._suspected_s: dict[str, float] = {}  # since when the member at an address is suspect
        self._next_renewal_s = replica.now_s
        self._no_registry_answered = False  # no registry answered the last Fence

    def tick(self) -> None:
        """Do what is due: renewals, joining, fencing, admissions and heartbeats."""
        replica = self.replica
        if replica.now_s >= self._next_renewal_s:
            self.renew()
        if replica.phase is Phase.JOINING:
            if not replica.leaving:
                self.joiner.advance()
        else:
            self._watch_members()
            self.joiner.admit_others()
        pause_s = replica.settings.retry_s if replica.suspended else replica.settings.heartbeat_s
        for peer in replica.members:
            peer.asked.clear()  # so that readers that still wait ask again
            if replica.now_s - peer.contacted_s >= pause_s or peer.watermark_sent < replica.watermark:
                replica.heartbeat(peer)

    def renew(self) -> None:
        """Renew at the registries, unless a Fence is unanswered: a renewal would prolong the wait for the lease's end.

        After `registry_s` renewals resume, because an answered Fence takes a while to reach the other registries.
        """
        replica = self.replica
        unanswered = replica.now_s - self._asked_s.get((Fence,), float("-inf")) < replica.settings.registry_s
        if (Renew,) in self._asked_s or self._no_registry_answered or unanswered:
            return
        self._next_renewal_s = replica.now_s + replica.settings.heartbeat_s
        in_sync = replica.in_sync if replica.in_sync.members else replica.last or NO_SET
        self._ask(replica.renewal(in_sync))

    def suspend(self) -> None:
        """Serve nothing after a standstill; ask registries and members whether this replica is still in sync."""
        replica = self.replica
        replica.suspended, replica.suspended_s = True, replica.now_s
        self._next_renewal_s = replica.now_s
        self.renew()
        for peer in replica.members:
            replica.heartbeat(peer)

    # The in-sync set

    def consider(self, in_sync: InSyncSet, sender: Identity | None) -> None:
        """Adopt a set of a higher term from a peer or a registry (sender None), or leave if it lacks this replica."""
        replica = self.replica
        is_trusted = sender is None or replica.in_sync.find(sender)
        if in_sync.find(replica.identity):
            if in_sync.term > replica.term:
                replica.adopting = in_sync
        elif is_trusted and replica.member() and in_sync.members and in_sync.term >= replica.term:
            self.leave("this replica was fenced", in_sync.term)

    def adopted(self, in_sync: InSyncSet) -> None:
        """Make a stored set the current one, unless this replica has seen its term or a higher one meanwhile."""
        replica = self.replica
        if in_sync.term <= replica.in_sync.term:
            return
        before, replica.in_sync, replica.last = replica.in_sync, in_sync, in_sync
        if replica.adopting and replica.adopting.term <= in_sync.term:
            replica.adopting = None
        for removed in before.members:
            if not in_sync.find(removed.identity):
                self.joiner.fenced(removed.identity)
                if removed.address != replica.own:
                    replica.heartbeat(replica.peer(removed.address))  # so that it learns at once that it was fenced
        replica.members = [
            self._member_peer(member, new=not before.find(member.identity))
            for member in in_sync.members
            if member.address != replica.own
        ]
        self._no_registry_answered = False
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
            replica.add_missing_origins(peer)
            replica.heartbeat(peer)
        self._next_renewal_s = replica.now_s
        self.renew()

    def _member_peer(self, member: Member, *, new: bool) -> Peer:
        """The peer of a member, without the target vector of the last set; a new member also without past failures."""
        peer = self.replica.peer_of(member.address, member.incarnation)
        peer.target = None
        if new:
            peer.left, peer.failed_s = False, None
        return peer

    def leave(self, reason: str, term: int = 0) -> None:
        """Leave the in-sync set, fenced or on purpose; waiting appends end as UNKNOWN with the reason."""
        replica = self.replica
        replica.in_sync = InSyncSet(max(term, replica.term), ())
        replica.adopting, replica.members, replica.phase = None, [], Phase.JOINING
        self._no_registry_answered = False
        self.joiner.left()
        self._records.fail_appends(AppendOutcome.UNKNOWN, reason)
        for peer in replica.peers.values():
            peer.target = None

    # States of peers

    def receive_join(self, request: Join) -> ReplicaState:
        """Handle the Join of a peer that is not in sync; the answer has the whole vector of this replica."""
        peer = self.replica.note_alive(request)
        peer.join, peer.join_s = request, self.replica.now_s
        peer.complete = True
        peer.left = self._has_left(request.in_sync)
        merge(peer.vector, request.vector)
        self.replica.add_missing_origins(peer)
        return self.replica.report(complete=True)

    def receive_heartbeat(self, request: Heartbeat) -> ReplicaState:
        """Handle the heartbeat of a member."""
        peer = self.replica.note_alive(request)
        peer.complete = peer.complete or request.whole
        self._learn(peer, request)
        if request.wants_watermark:
            self._records.wants_watermark(peer, dict(request.pending))
        return self.replica.report()

    def receive_state(self, request: Join | Heartbeat, state: ReplicaState, asked_s: float) -> None:
        """Handle a peer's answer about its state to a request that was sent at `asked_s`."""
        peer = self.replica.note_alive(state)
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
        """True if the sender of this in-sync set is in no set, and has seen the current term or a later one."""
        return not in_sync.members and in_sync.term >= self.replica.in_sync.term

    def _learn(self, peer: Peer, state: Heartbeat | ReplicaState) -> None:
        replica = self.replica
        merge(peer.vector, state.vector)
        self.consider(state.in_sync, peer.identity)
        if replica.in_sync.find(peer.identity):
            self._records.learn_watermark(state.incarnation, state.watermark)
            if peer.target is None and state.in_sync.term >= replica.in_sync.term:
                peer.target = dict(peer.vector)
                merge(peer.target, state.pending)
        replica.add_missing_origins(peer)
        if state.in_sync.term < replica.in_sync.term and peer in replica.members and isinstance(state, Heartbeat):
            peer.contacted_s = float("-inf")  # its set is older: send it the current one at the next tick

    # Members that do not confirm

    def _watch_members(self) -> None:
        """Ask the registries to fence the members that are suspect."""
        replica, since_s = self.replica, self._suspected_s
        suspects = [peer for peer in replica.members if replica.suspects(peer)]
        self._suspected_s = {peer.address: since_s.get(peer.address, replica.now_s) for peer in suspects}
        if not suspects:
            self._no_registry_answered = False
            return
        identities = tuple(one.identity for one in replica.in_sync.members if replica.peer(one.address) in suspects)
        self._ask(Fence(node=replica.own, incarnation=replica.incarnation, targets=identities))
        if self._no_registry_answered and not replica.adopting:
            self._fence_alone(suspects)

    def _fence_alone(self, suspects: Sequence[Peer]) -> None:
        """Adopt a set without the suspects, once no registry can list them together with this replica.

        Facades use their last list meanwhile, so it also waits a lease from the suspicion on: suspects may recover.
        """
        replica = self.replica
        waited_s = replica.now_s - max(self.renewed_s, *self._suspected_s.values())
        ended = all(peer.refused or not replica.in_sync.find(peer.identity) for peer in suspects)
        if ended or waited_s >= replica.settings.lease_s:
            rest = tuple(one for one in replica.in_sync.members if replica.peer(one.address) not in suspects)
            if len(rest) < len(replica.in_sync.members):
                replica.adopting = InSyncSet(replica.in_sync.term + 1, rest)

    def begin_incarnation(self, incarnation: int) -> bool:
        """Use a new, stored incarnation; False if a registry must first replace the listed incarnation by it."""
        replica = self.replica
        if replica.phase is Phase.READY:
            joiner = Identity(replica.own, incarnation)
            self._ask(Admit(node=replica.own, incarnation=replica.incarnation, joiner=joiner))
            return False
        replica.incarnation = incarnation
        self._records.begin_incarnation()
        return True

    def request_removal(self) -> None:
        """Ask the registries to remove this replica from the in-sync set."""
        own = self.replica.identity
        self._ask(Fence(node=own.address, incarnation=own.incarnation, targets=(own,)))

    # Registries

    def _ask(self, message: RegistryRequest) -> None:
        """Send a request to the registries, unless one of its kind is unanswered."""
        if _kind(message) in self._asked_s:
            return
        self._asked_s[_kind(message)] = self.replica.now_s
        self.replica.effects.append(AskRegistries(message))

    def registry_answered(
        self, message: RegistryRequest, reply: Renewed | None, renewed_s: float, others: Sequence[Renewed]
    ) -> None:
        """Handle the answer of the deciding registry, or None; see `Core.registry_answered`."""
        replica = self.replica
        asked_s = self._asked_s.pop(_kind(message), float("-inf"))
        self.renewed_s = replica.now_s if isinstance(message, Renew) and reply else max(renewed_s, self.renewed_s)
        if isinstance(message, Admit) and reply and self._is_renamed(message.joiner, reply):
            replica.incarnation = message.joiner.incarnation
            self._records.begin_incarnation()
        for one in (reply, *others) if reply else ():
            # Only the deciding registry may bring back a replica that has left; see DESIGN.md, Several registries.
            if one is reply or replica.member() or not one.in_sync.find(replica.identity):
                self._learn_registry(one, asked_s)
        if isinstance(message, Fence) and replica.identity in message.targets:
            if reply is None or (replica.leaving and replica.own not in reply.live):  # the last one stays in the set
                self.leave("this replica leaves")
        elif reply is None and isinstance(message, Fence) and replica.phase is not Phase.JOINING:  # else it has left
            self._no_registry_answered = True

    def _is_renamed(self, joiner: Identity, reply: Renewed) -> bool:
        """True if the registry has replaced the incarnation of this replica by a new one."""
        renamed = joiner.address == self.replica.own and joiner != self.replica.identity
        return renamed and reply.in_sync.find(joiner) is not None

    def _learn_registry(self, reply: Renewed, asked_s: float) -> None:
        """Handle the answer of a registry to a request that was sent at `asked_s`."""
        replica = self.replica
        self.joiner.learn(reply)
        self._no_registry_answered = False
        if reply.standing is Standing.STARTING:
            return
        if asked_s >= replica.suspended_s:
            replica.suspended = False
        self.consider(reply.in_sync, None)
        if reply.standing is Standing.OUTSIDE and replica.member() and reply.in_sync.term >= replica.term:
            self.leave("this replica was fenced", reply.in_sync.term)


def _kind(message: RegistryRequest) -> tuple[object, ...]:
    """The kind of a request to the registries; of each kind, one is unanswered at a time."""
    return (Admit, message.joiner) if isinstance(message, Admit) else (type(message),)
