"""What a replica knows about itself and about its peers: the state that the parts of the core share."""

import enum
from collections.abc import Iterable, Mapping

from common.protocol.codec import Request
from common.protocol.replication import Heartbeat, Identity, InSyncSet, Join, Member, Renew, ReplicaState, Replicate
from common.protocol.vectors import Vector, VectorEntry
from nodes.replication.core.effects import Effect, Opened, Send, Settings

Versions = dict[int, int]  # a version vector: for each incarnation, up to which number its records are there


class Phase(enum.Enum):
    """What a replica does."""

    JOINING = "joining"  # it is not in sync, or not listed yet: clients are refused
    READY = "ready"  # it is listed: it reads and writes
    LEAVING = "leaving"  # it finishes what it has accepted


class Peer:
    """Another replica, as this one sees it.

    Attributes:
        incarnation: that its last message named; 0 before the first.
        connected: False from the loss of the connection until there is a new one.
        refused: its host refused a connection: the process has ended.
        left: it said that it is in no in-sync set.
        vector: what is on its disk, as far as it has said.
        complete: it has told its whole vector.
        has_vector: it has answered a message with the whole vector of this replica.
        sent: up to which number the records of an origin were sent to it.
        origins: of which it may lack records that this replica has to send.
        unanswered: when the requests that it has not answered were sent, by their numbers, the oldest first.
        window: those of them that are Replicate messages.
        loading: records for it are being read from the journal.
        failed_s: since when it answers with failures; None when it does not.
        paused_s: until when no records are sent to it.
        answer_s, answered_s: the duration of its last answer to a Replicate, and when that came.
        join, join_s: its last request to join, and when it came.
        state, state_s: its last answer about itself, and when it came.
        agreed_s: when it was asked for its last answer in which it had the same in-sync set as this replica.
        target: the vector that it had when it began to count on this replica; see Membership.
        watermark_sent: the watermark that was sent to it last.
        watermark_wanted: up to which own record its readers wait for the watermark.
        asked: for each origin, up to which number it was asked about confirmations since the last tick.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.connected = True
        self.refused = False
        self.unanswered: dict[int, float] = {}
        self.window: dict[int, Replicate] = {}
        self.contacted_s = 0.0
        self.answer_s = self.answered_s = 0.0
        self.failed_s: float | None = None
        self.paused_s = 0.0
        self.restarted(0)

    def restarted(self, incarnation: int) -> None:
        """Forget what an earlier process at this address said: it may have lost its disk."""
        self.incarnation = incarnation
        self.loading = False
        self.left = self.complete = self.has_vector = False
        self.vector: Versions = {}
        self.sent: Versions = {}
        self.origins: set[int] = set()
        self.join: Join | None = None
        self.state: ReplicaState | None = None
        self.join_s = self.state_s = self.agreed_s = float("-inf")
        self.target: Versions | None = None
        self.watermark_sent = self.watermark_wanted = 0
        self.asked: Versions = {}

    def lost(self) -> None:
        """Nothing that is under way will be answered."""
        self.unanswered.clear()
        self.window.clear()
        self.loading = False
        self.resend()

    def resend(self) -> None:
        """Send again what it has not confirmed."""
        self.sent = {}

    @property
    def identity(self) -> Identity:
        """Its address and incarnation."""
        return Identity(self.address, self.incarnation)


class Replica:
    """The state of this replica.

    Args:
        own: host:port of this node.
        opened: what its journal held when it was opened.
        settings: times and limits.

    Attributes:
        in_sync: the current in-sync set as it is stored; without members while this replica is in none.
        last: the last set that it was a member of, or None if its journal knows of none.
        adopting: the set that is being stored, and then becomes the current one.
        members: the other members of the current set.
        vector: what is on the disk.
        pending: the same with what is about to be committed.
        watermarks: up to which number each origin has said that its records are on all in-sync disks.
        changed: origins of which something was accepted since the start.
        watermark: up to this number its own records are on the disk of each member.
        source: the peer that is asked for what this replica lacks; empty for none.
        can_serve: the storage of this node is open.
        read_only: why nothing can be written; empty when it can.
        leaving: it was told to stop.
        suspended: nothing is accepted, acknowledged or shown until a registry, or all members, have answered.
        suspended_s: since when, or since when the last time.
    """

    def __init__(self, own: str, opened: Opened, settings: Settings, now_s: float) -> None:
        self.own = own
        self.settings = settings
        self.now_s = now_s
        self.incarnation = opened.incarnation
        self.phase = Phase.JOINING
        self.in_sync = InSyncSet(opened.in_sync.term if opened.in_sync else 0, ())
        self.last = opened.in_sync
        self.adopting: InSyncSet | None = None
        self.members: list[Peer] = []
        self.peers: dict[str, Peer] = {}
        self.vector: Versions = dict(opened.vector)
        self.pending: Versions = dict(opened.vector)
        self.watermarks: Versions = {}
        self.changed: set[int] = {opened.incarnation}
        self.watermark = 0
        self.source = ""
        self.can_serve = False
        self.suspended = False
        self.suspended_s = float("-inf")
        self.leaving = False
        self.read_only = ""
        self.effects: list[Effect] = []
        self._number = 0

    @property
    def identity(self) -> Identity:
        """Address and incarnation of this replica."""
        return Identity(self.own, self.incarnation)

    @property
    def term(self) -> int:
        """The highest term that it has taken part in, also when its set is still being stored."""
        return max(self.in_sync.term, self.adopting.term if self.adopting else 0)

    @property
    def busy(self) -> bool:
        """True if it waits for a peer or a registry."""
        unanswered = any(peer.unanswered for peer in self.peers.values())
        return unanswered or self.phase is not Phase.READY or self.suspended or bool(self.read_only)

    def member(self) -> Member | None:
        """Its entry in the current in-sync set."""
        return self.in_sync.find(self.identity)

    def peer(self, address: str) -> Peer:
        """The peer at an address, made when it is new."""
        if address not in self.peers:
            self.peers[address] = Peer(address)
        return self.peers[address]

    def peer_of(self, address: str, incarnation: int) -> Peer:
        """The peer at an address, without what an earlier process there has said."""
        peer = self.peer(address)
        if peer.incarnation != incarnation:
            peer.restarted(incarnation)
        return peer

    def sender(self, message: Join | Heartbeat | ReplicaState) -> Peer:
        """The peer that has sent a message: its process runs."""
        peer = self.peer_of(message.node, message.incarnation)
        peer.refused = False
        return peer

    def suspects(self, peer: Peer) -> bool:
        """True if a member cannot be reached, has left, has started again, or confirms nothing for too long."""
        oldest_s = next(iter(peer.unanswered.values()), self.now_s)
        since_s = oldest_s if peer.failed_s is None else min(oldest_s, peer.failed_s)
        gone = peer.left or not peer.connected or not self.in_sync.find(peer.identity)
        return gone or self.now_s - since_s > self.settings.confirm_s

    def resume_if_all_agree(self) -> None:
        """Go on after a standstill when all members still count on this replica: none has acknowledged without it."""
        if self.members and all(peer.agreed_s >= self.suspended_s for peer in self.members):
            self.suspended = False

    def send(self, peer: Peer, message: Request) -> None:
        """Send a request to a peer."""
        self._number += 1
        peer.unanswered[self._number] = self.now_s
        if isinstance(message, Replicate):
            peer.window[self._number] = message
        self.effects.append(Send(peer.address, self._number, message))

    def wants_records(self, peer: Peer) -> bool:
        """True if the peer has lately asked this replica for all that it lacks."""
        recent_s = self.now_s - 10 * self.settings.retry_s
        return peer.join is not None and peer.join.wants_records and peer.join_s > recent_s

    def linked(self, peer: Peer) -> bool:
        """True if this replica sends records to the peer."""
        return peer in self.members or self.wants_records(peer) or peer.address == self.source

    def compare(self, peer: Peer) -> None:
        """Note of which origins a peer may lack records that this replica has to send."""
        if self.linked(peer):
            live = () if self.wants_records(peer) else self.live_origins()
            peer.origins |= {
                origin
                for origin, upto in self.vector.items()
                if upto > peer.vector.get(origin, 0) and origin not in live
            }

    def heartbeat(self, peer: Peer, *, wants_confirmed: bool = False) -> None:
        """Tell a member how far this replica is."""
        peer.contacted_s, peer.watermark_sent = self.now_s, self.watermark
        self.send(
            peer,
            Heartbeat(
                node=self.own,
                incarnation=self.incarnation,
                in_sync=self.in_sync,
                vector=to_wire(self.vector, self.changed if peer.has_vector else None),
                pending=self._uncommitted(),
                confirmed=self.watermark,
                wants_confirmed=wants_confirmed,
                whole=not peer.has_vector,
            ),
        )

    def renewal(self, in_sync: InSyncSet) -> Renew:
        """A renewal at a registry of which no start is known."""
        ready = self.phase is not Phase.JOINING
        return Renew(node=self.own, incarnation=self.incarnation, registry=0, in_sync=in_sync, ready=ready)

    def report(self, *, complete: bool = False) -> ReplicaState:
        """What this replica says of itself, `complete`: with its whole vector."""
        return ReplicaState(
            node=self.own,
            incarnation=self.incarnation,
            ready=self.phase is not Phase.JOINING,
            can_serve=self.can_serve,
            in_sync=self.in_sync,
            vector=to_wire(self.vector, None if complete else self.changed),
            pending=self._uncommitted(),
            confirmed=self.watermark,
        )

    def _uncommitted(self) -> Vector:
        """What is about to be committed."""
        return to_wire(
            self.pending,
            [origin for origin in self.changed if self.pending.get(origin, 0) > self.vector.get(origin, 0)],
        )

    def heads(self) -> Versions:
        """What is on the disk, and what is about to be: at least everything that a read of the journal shows now."""
        return dict(self.pending)

    def recent_of(self, versions: Mapping[int, int]) -> Vector:
        """The entries of a vector that changed since the start."""
        return to_wire(versions, [origin for origin in self.changed if versions.get(origin)])

    def unconfirmed(self) -> int:
        """How many of its records another member has not confirmed, at the one that lacks most."""
        upto = self.pending.get(self.incarnation, 0)
        return max((upto - peer.vector.get(self.incarnation, 0) for peer in self.members), default=0)

    def live_origins(self) -> set[int]:
        """The incarnations that may accept records now: each sends its own to the others."""
        return {one.incarnation for one in self.in_sync.members}


def to_wire(versions: Mapping[int, int], only: Iterable[int] | None = None) -> Vector:
    """A version vector as messages carry it, or a part of it."""
    if only is None:
        return tuple(VectorEntry(origin, upto) for origin, upto in versions.items())
    return tuple(VectorEntry(origin, versions[origin]) for origin in only if origin in versions)


def merge(versions: Versions, more: Iterable[tuple[int, int]]) -> None:
    """Raise each entry to that of the other vector."""
    for origin, upto in more:
        if upto > versions.get(origin, 0):
            versions[origin] = upto


def covers(versions: Mapping[int, int], other: Mapping[int, int]) -> bool:
    """True if the first vector has everything that the other one has."""
    return all(versions.get(origin, 0) >= upto for origin, upto in other.items())
