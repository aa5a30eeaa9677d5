"""The state of a replica and of its peers, which the modules of the core share."""

import enum
from collections.abc import Iterable, Mapping

from common.protocol.codec import Request
from common.protocol.replication import Heartbeat, Identity, InSyncSet, Join, Member, Renew, ReplicaState, Replicate
from common.protocol.vectors import Vector, VectorEntry
from nodes.replication.core.effects import Effect, Opened, Send, Settings

Versions = dict[int, int]  # a version vector: for each incarnation, the sequence number up to which it is complete


class Phase(enum.Enum):
    """The phase of a replica."""

    JOINING = "joining"  # it is not in sync, or not listed yet: it refuses clients
    READY = "ready"  # it is listed: it serves reads and writes
    LEAVING = "leaving"  # it finishes accepted appends, and refuses new ones


class Peer:
    """Another replica, as this one sees it.

    Attributes:
        incarnation: the incarnation in its last message; 0 before the first.
        connected: False from the loss of the connection until there is a new one.
        refused: its host refused a connection, so its process has ended.
        left: it reported that it is in no in-sync set.
        vector: the records on its disk, as far as it has reported them.
        complete: it has reported its whole vector.
        has_vector: it has answered a message that carried the whole vector of this replica.
        sent: for each origin, the sequence number up to which records were sent to it.
        origins: the origins whose records it may lack and this replica must send.
        unanswered: when each unanswered request to it was sent, by request number, the oldest first.
        window: the unanswered Replicate messages, by request number.
        loading: records for it are being read from the journal.
        failed_s: since when it answers with failures; None when it does not.
        paused_s: until when no records are sent to it.
        answer_s, answered_s: the duration of its last answer to a Replicate, and when it arrived.
        join, join_s: its last Join, and when it arrived.
        state, state_s: its last ReplicaState, and when it arrived.
        agreed_s: when the request was sent to which it last answered with the in-sync set of this replica.
        target: what it had, or was committing, when it adopted the current set; None until it has reported that.
        watermark_sent: the watermark that was sent to it last.
        watermark_wanted: the sequence number of this replica up to which its readers wait for the watermark.
        asked: for each origin, the sequence number up to which it was asked for confirmations since the last tick.
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
        """Reset what an earlier process at this address reported: the new one may have lost its disk."""
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
        """Drop the requests in flight after the loss of the connection: they will not be answered."""
        self.unanswered.clear()
        self.window.clear()
        self.loading = False
        self.resend()

    def resend(self) -> None:
        """Send unconfirmed records again."""
        self.sent = {}

    @property
    def identity(self) -> Identity:
        """The address and incarnation of the peer."""
        return Identity(self.address, self.incarnation)


class Replica:
    """The state of this replica.

    Args:
        own: host:port of this node.
        opened: what its journal held when it was opened.
        settings: times and limits.

    Attributes:
        in_sync: the current in-sync set, as it is stored; without members while this replica is in none.
        last: the last set of which it was a member; None if its journal has none.
        adopting: the set that is being stored, and then becomes the current one; None for none.
        members: the other members of the current set.
        vector: the records on its disk.
        pending: the records on its disk and those about to be committed.
        watermarks: for each origin, the watermark that it has reported.
        changed: the origins with new records since this process started.
        watermark: the sequence number up to which all members have confirmed its own records.
        source: the address of the peer from which it catches up; empty for none.
        can_serve: the storage of this node is open.
        read_only: why nothing can be written; empty if it can.
        leaving: it was asked to leave the in-sync set.
        suspended: nothing is accepted, acknowledged or shown until a registry, or all members, have answered.
        suspended_s: when the last suspension began.
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
        """The address and incarnation of this replica."""
        return Identity(self.own, self.incarnation)

    @property
    def term(self) -> int:
        """The highest term that it has adopted, or is adopting."""
        return max(self.in_sync.term, self.adopting.term if self.adopting else 0)

    @property
    def busy(self) -> bool:
        """True if it waits for a peer, a registry or the disk, so that it needs frequent ticks."""
        unanswered = any(peer.unanswered for peer in self.peers.values())
        return unanswered or self.phase is not Phase.READY or self.suspended or bool(self.read_only)

    def member(self) -> Member | None:
        """Its entry in the current in-sync set."""
        return self.in_sync.find(self.identity)

    def peer(self, address: str) -> Peer:
        """The peer at an address; created if it does not exist."""
        if address not in self.peers:
            self.peers[address] = Peer(address)
        return self.peers[address]

    def peer_of(self, address: str, incarnation: int) -> Peer:
        """The peer at an address, reset if the incarnation is another one than before."""
        peer = self.peer(address)
        if peer.incarnation != incarnation:
            peer.restarted(incarnation)
        return peer

    def note_alive(self, message: Join | Heartbeat | ReplicaState) -> Peer:
        """Note that the sender of a message is alive; return its peer."""
        peer = self.peer_of(message.node, message.incarnation)
        peer.refused = False
        return peer

    def suspects(self, peer: Peer) -> bool:
        """True if a member is disconnected, left, restarted, or has failed or not answered for over `confirm_s`."""
        oldest_s = next(iter(peer.unanswered.values()), self.now_s)
        since_s = oldest_s if peer.failed_s is None else min(oldest_s, peer.failed_s)
        gone = peer.left or not peer.connected or not self.in_sync.find(peer.identity)
        return gone or self.now_s - since_s > self.settings.confirm_s

    def resume_if_all_agree(self) -> None:
        """End a suspension if all members have since reported the same set: none has acknowledged without this one."""
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
        """True if the peer is a joiner that has recently asked this replica, as its source, for records."""
        recent_s = self.now_s - 10 * self.settings.retry_s
        return peer.join is not None and peer.join.wants_records and peer.join_s > recent_s

    def linked(self, peer: Peer) -> bool:
        """True if this replica sends records to the peer."""
        return peer in self.members or self.wants_records(peer) or peer.address == self.source

    def add_missing_origins(self, peer: Peer) -> None:
        """Add the origins whose records the peer may lack, and this replica must send, to `Peer.origins`."""
        if self.linked(peer):
            live = () if self.wants_records(peer) else self.live_origins()
            peer.origins |= {
                origin
                for origin, upto in self.vector.items()
                if upto > peer.vector.get(origin, 0) and origin not in live
            }

    def heartbeat(self, peer: Peer, *, wants_watermark: bool = False) -> None:
        """Send a member the in-sync set, vector and watermark of this replica."""
        peer.contacted_s, peer.watermark_sent = self.now_s, self.watermark
        self.send(
            peer,
            Heartbeat(
                node=self.own,
                incarnation=self.incarnation,
                in_sync=self.in_sync,
                vector=to_wire(self.vector, self.changed if peer.has_vector else None),
                pending=self._uncommitted(),
                watermark=self.watermark,
                wants_watermark=wants_watermark,
                whole=not peer.has_vector,
            ),
        )

    def renewal(self, in_sync: InSyncSet) -> Renew:
        """A renewal without the start id of a registry."""
        ready = self.phase is not Phase.JOINING
        return Renew(node=self.own, incarnation=self.incarnation, registry=0, in_sync=in_sync, ready=ready)

    def report(self, *, complete: bool = False) -> ReplicaState:
        """The state of this replica for its peers; `complete`: with its whole vector."""
        return ReplicaState(
            node=self.own,
            incarnation=self.incarnation,
            ready=self.phase is not Phase.JOINING,
            can_serve=self.can_serve,
            in_sync=self.in_sync,
            vector=to_wire(self.vector, None if complete else self.changed),
            pending=self._uncommitted(),
            watermark=self.watermark,
        )

    def _uncommitted(self) -> Vector:
        """The entries of `pending` that are not on the disk yet."""
        return to_wire(
            self.pending,
            [origin for origin in self.changed if self.pending.get(origin, 0) > self.vector.get(origin, 0)],
        )

    def pending_vector(self) -> Versions:
        """A copy of `pending`: it covers everything that a read of the journal shows now."""
        return dict(self.pending)

    def recent_of(self, versions: Mapping[int, int]) -> Vector:
        """The entries of a vector that changed since the start."""
        return to_wire(versions, [origin for origin in self.changed if versions.get(origin)])

    def unconfirmed(self) -> int:
        """The number of own records that the slowest member has not confirmed."""
        upto = self.pending.get(self.incarnation, 0)
        return max((upto - peer.vector.get(self.incarnation, 0) for peer in self.members), default=0)

    def live_origins(self) -> set[int]:
        """The incarnations that may accept records now; each of them sends its own records to all members."""
        return {one.incarnation for one in self.in_sync.members}


def to_wire(versions: Mapping[int, int], only: Iterable[int] | None = None) -> Vector:
    """A version vector as messages carry it; `only`: the entries of these incarnations."""
    if only is None:
        return tuple(VectorEntry(origin, upto) for origin, upto in versions.items())
    return tuple(VectorEntry(origin, versions[origin]) for origin in only if origin in versions)


def merge(versions: Versions, more: Iterable[tuple[int, int]]) -> None:
    """Raise each entry of the first vector to at least the entry of the second one."""
    for origin, upto in more:
        if upto > versions.get(origin, 0):
            versions[origin] = upto


def covers(versions: Mapping[int, int], other: Mapping[int, int]) -> bool:
    """True if the first vector has everything that the second one has."""
    return all(versions.get(origin, 0) >= upto for origin, upto in other.items())
