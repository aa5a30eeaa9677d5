"""The records of a replica, from acceptance through commit and confirmation to acknowledgement."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from common.protocol.content import Entry, content_bytes
from common.protocol.replication import Identity, Record, Replicate, Replicated
from nodes.replication.core.effects import AnswerPeer, AppendOutcome, FinishAppend, Range, Token
from nodes.replication.core.state import Peer, Phase, Replica, covers, merge

# Limit of own records kept in memory for peers, to bound memory. A peer that lacks older ones gets them from the disk.
RECENT_RECORDS = 4_000


class _Append(NamedTuple):
    """An append that waits for its confirmations."""

    upto: int
    token: Token
    message_id: str
    bytes: int


class Records:
    """Numbers own records, stores the records of peers, and determines which are on all in-sync disks.

    Args:
        replica: the state of this replica.

    Attributes:
        recent: the newest own records, for sending without a read of the journal.
        pending_bytes: bytes of the messages of appends that wait for confirmations.
    """

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self._writes: list[Range] = []
        self._own_writes: list[Record] = []
        self.recent: deque[Record] = deque()
        self._appends: deque[_Append] = deque()
        self._answers: list[tuple[int, int, Token, Replicate]] = []  # answered when the origin's number is stored
        self._unstable: set[int] = set()  # origins with records that are not stable yet
        self._stable: dict[int, int] = {}  # for each origin, the number up to which its records are stable
        self._advanced_s = 0.0  # when the oldest watermark was reached that a waiting peer may lack
        self.pending_bytes = 0

    # Appends

    def append(self, token: Token, entries: Sequence[Entry], message_id: str = "") -> None:
        """Number, commit and send messages; FinishAppend follows when all in-sync disks have them."""
        replica = self.replica
        number = replica.pending.get(replica.incarnation, 0)
        size = 0
        for one in entries:
            number += 1
            term = replica.in_sync.term if one.key else 0
            record = Record(number, one.id, one.msg, one.key or None, term, one.fields)
            self._own_writes.append(record)
            self.recent.append(record)
            size += content_bytes(record)
        replica.pending[replica.incarnation] = number
        self._unstable.add(replica.incarnation)
        self.pending_bytes += size
        self._appends.append(_Append(number, token, message_id, size))

    def fail_appends(self, outcome: AppendOutcome, reason: str) -> None:
        """End all waiting appends with an outcome."""
        for append in self._appends:
            self.replica.effects.append(FinishAppend(append.token, outcome, append.message_id, reason=reason))
        self._appends.clear()
        self.pending_bytes = 0

    @property
    def idle(self) -> bool:
        """True if no append waits."""
        return not self._appends

    # Commits

    def take_writes(self) -> tuple[Range, ...]:
        """The ranges for the next commit, of at most `commit_records` unless the first range alone has more."""
        replica = self.replica
        most = replica.settings.commit_records
        own, self._own_writes = self._own_writes[:most], self._own_writes[most:]
        if own:
            self._writes.append(Range(replica.incarnation, own[0].sequence - 1, own[-1].sequence, tuple(own)))
        taken = count = 0
        for one in self._writes:
            if taken and count + len(one.records) > most:
                break
            taken, count = taken + 1, count + len(one.records)
        writes, self._writes = tuple(self._writes[:taken]), self._writes[taken:]
        return writes

    @property
    def unwritten(self) -> bool:
        """True if there are records to commit."""
        return bool(self._writes or self._own_writes)

    def committed(self, ranges: Sequence[Range]) -> None:
        """Raise the vector for ranges that are on the disk, and answer the peers that wait for them."""
        replica, live = self.replica, self.replica.live_origins()
        for one in ranges:
            replica.vector[one.origin] = max(one.upto, replica.vector.get(one.origin, 0))
            self._unstable.add(one.origin)
            if one.origin not in live:
                for peer in replica.peers.values():
                    peer.origins.add(one.origin)
        waiting = self._answers
        self._answers = []
        for origin, upto, token, request in waiting:
            if replica.vector.get(origin, 0) >= upto:
                self._answer(token, request)
            else:
                self._answers.append((origin, upto, token, request))

    def discard(self) -> None:
        """Drop all uncommitted records after a failed commit."""
        replica = self.replica
        self._writes, self._own_writes = [], []
        self.recent.clear()
        replica.pending = dict(replica.vector)
        for *_, token, request in self._answers:
            self._answer(token, request)
        self._answers = []

    def begin_incarnation(self) -> None:
        """Start numbering again: this replica has a new incarnation."""
        replica = self.replica
        replica.changed.add(replica.incarnation)
        replica.watermark = 0
        for peer in replica.peers.values():
            peer.watermark_sent = peer.watermark_wanted = 0
            peer.has_vector = False

    # Records of peers

    def receive(self, token: Token, request: Replicate) -> None:
        """Accept the records of a peer; it is answered when they are on the disk."""
        replica = self.replica
        sender = replica.in_sync.find(Identity(request.node, request.incarnation))
        if 0 < request.term <= replica.in_sync.term and replica.member() and not sender:
            self._answer(token, request)  # the sender is fenced; the set in the answer says so
            return
        have = replica.pending.get(request.origin, 0)
        if request.after <= have < request.upto:
            new = tuple(record for record in request.records if record.sequence > have)
            self._writes.append(Range(request.origin, have, request.upto, new))
            have = replica.pending[request.origin] = request.upto
            replica.changed.add(request.origin)
            self._unstable.add(request.origin)
        if sender:
            self.learn_watermark(request.incarnation, request.watermark)
        wanted = min(have, request.upto)
        if replica.vector.get(request.origin, 0) >= wanted:
            self._answer(token, request)
        else:
            self._answers.append((request.origin, wanted, token, request))

    def _answer(self, token: Token, request: Replicate) -> None:
        replica = self.replica
        sender = replica.in_sync.find(Identity(request.node, request.incarnation))
        # Without a registry two sets may have one term: a sender that is not in this set gets it at an equal term, too.
        lowest = request.term + 1 if sender else request.term
        newer = replica.in_sync if replica.member() and replica.in_sync.term >= lowest and request.term > 0 else None
        replica.effects.append(
            AnswerPeer(
                token,
                Replicated(
                    node=replica.own,
                    incarnation=replica.incarnation,
                    term=replica.in_sync.term,
                    origin=request.origin,
                    upto=replica.vector.get(request.origin, 0),
                    in_sync=newer,
                ),
            )
        )

    # Confirmations

    def replicated(self, peer: Peer, request: Replicate, reply: Replicated) -> None:
        """Handle a peer's answer to a Replicate; after a gap, send again from where the peer is."""
        peer.vector[reply.origin] = max(reply.upto, peer.vector.get(reply.origin, 0))
        if reply.upto < request.upto:
            peer.sent[reply.origin] = reply.upto

    def learn_watermark(self, origin: int, watermark: int) -> None:
        """Record the watermark of an origin: its records up to this number are on all disks of its in-sync set."""
        if watermark > self.replica.watermarks.get(origin, 0):
            self.replica.watermarks[origin] = watermark
            self._unstable.add(origin)

    def advance(self) -> None:
        """Acknowledge the appends that all members have confirmed, and raise the stable numbers."""
        replica = self.replica
        if self._unstable:
            self._advance_stable()
        if replica.phase is Phase.JOINING or replica.adopting or replica.suspended:
            return
        own = replica.incarnation
        confirmed = min([replica.vector.get(own, 0), *(peer.vector.get(own, 0) for peer in replica.members)])
        if confirmed <= self.replica.watermark:
            return
        if not any(map(self.lacks_watermark, replica.members)):
            self._advanced_s = replica.now_s
        self.replica.watermark = confirmed
        self._unstable.add(own)
        self._advance_stable()
        while self._appends and self._appends[0].upto <= confirmed:
            append = self._appends.popleft()
            self.pending_bytes -= append.bytes
            replica.effects.append(
                FinishAppend(append.token, AppendOutcome.STORED, append.message_id, own, append.upto)
            )
        while self.recent and (self.recent[0].sequence <= confirmed or len(self.recent) > RECENT_RECORDS):
            self.recent.popleft()

    def _advance_stable(self) -> None:
        """Raise the stable number of each origin to its watermark, or to the lowest number that a member reports."""
        replica = self.replica
        for origin in tuple(self._unstable):
            have = replica.vector.get(origin, 0)
            everywhere = min([have, *(peer.vector.get(origin, 0) for peer in replica.members)])
            watermark = self.replica.watermark if origin == replica.incarnation else replica.watermarks.get(origin, 0)
            stable = max(everywhere if origin != replica.incarnation else 0, min(watermark, have))
            self._stable[origin] = max(stable, self._stable.get(origin, 0))
            if self._stable[origin] >= replica.pending.get(origin, 0):
                self._unstable.discard(origin)

    def is_stable(self, versions: Mapping[int, int]) -> bool:
        """True if all records that the vector covers are on the disks of a whole in-sync set."""
        return all(
            self._stable.get(origin, 0) >= versions.get(origin, 0) for origin in self._unstable if origin in versions
        )

    def recheck(self) -> None:
        """Compute the stable numbers of all origins from the vectors of the members, before this replica serves."""
        self._unstable.update(self.replica.vector)
        self._advance_stable()

    # Watermarks that no Replicate carries

    def ask_whether_confirmed(self, versions: Mapping[int, int]) -> bool:
        """Ask listed origins for their watermarks, all members about other origins; False if all were asked already."""
        replica, listed = self.replica, {one.incarnation for one in self.replica.in_sync.listed}
        unconfirmed = {
            origin: upto
            for origin in self._unstable - {replica.incarnation}
            if (upto := versions.get(origin, 0)) > self._stable.get(origin, 0)
        }
        asks = False
        for peer in replica.members:
            wanted = {
                origin: upto
                for origin, upto in unconfirmed.items()
                if origin == peer.incarnation or origin not in listed
            }
            if not covers(peer.asked, wanted):
                merge(peer.asked, wanted.items())
                replica.heartbeat(peer, wants_watermark=True)
                asks = True
        return asks

    def wants_watermark(self, peer: Peer, pending: Mapping[int, int]) -> None:
        """Record up to which own record the readers of a peer wait: what the peer has, or is about to commit."""
        own = self.replica.incarnation
        peer.watermark_wanted = max(peer.vector.get(own, 0), pending.get(own, 0))
        peer.watermark_sent = self.replica.watermark  # the answer to its heartbeat carries it

    def lacks_watermark(self, peer: Peer) -> bool:
        """True if the readers of a peer wait for a watermark that it has not been sent."""
        return peer.watermark_sent < min(peer.watermark_wanted, self.replica.watermark)

    def watermark_due_s(self) -> float | None:
        """The latest time to send the watermark to members whose readers wait for it; None if no reader waits."""
        waits = any(map(self.lacks_watermark, self.replica.members))
        return self._advanced_s + self.replica.settings.watermark_s if waits else None
