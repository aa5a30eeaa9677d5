"""The records of a replica: accepted, stored, sent to the peers, confirmed by them, acknowledged."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from common.protocol.messages import text_bytes
from common.protocol.replication import Identity, Record, Replicate, Replicated
from nodes.replication.core.effects import AnswerPeer, AppendOutcome, FinishAppend, Range, Token
from nodes.replication.core.state import Peer, Phase, Replica, covers, merge

# Own records that are kept in memory for peers. A peer that is further behind gets them from the disk.
RECENT_RECORDS = 4_000


class _Append(NamedTuple):
    """An append that waits for its confirmations."""

    upto: int
    token: Token
    message_id: str
    bytes: int


class Records:
    """Numbers own records, takes those of peers, and tells when they are on all in-sync disks.

    Args:
        replica: the state of this replica.
    """

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self._writes: list[Range] = []
        self._own_writes: list[Record] = []
        self.recent: deque[Record] = deque()
        self._appends: deque[_Append] = deque()
        self._answers: list[tuple[int, int, Token, Replicate]] = []
        self._unstable: set[int] = set()
        self._stable: dict[int, int] = {}
        self._advanced_s = 0.0  # when the watermark last grew beyond what a waiting peer knows
        self.pending_bytes = 0

    # What is accepted here

    def append(self, token: Token, entries: Sequence[tuple[str, str, str | None]], message_id: str = "") -> None:
        """Number (id, text, key) triples; `Finish` comes when they are on all in-sync disks."""
        replica = self.replica
        number = replica.pending.get(replica.incarnation, 0)
        size = 0
        for entry in entries:
            number += 1
            record = Record(number, *entry, term=replica.in_sync.term if entry[2] else 0)
            self._own_writes.append(record)
            self.recent.append(record)
            size += text_bytes(record.msg)
        replica.pending[replica.incarnation] = number
        self._unstable.add(replica.incarnation)
        self.pending_bytes += size
        self._appends.append(_Append(number, token, message_id, size))

    def fail_appends(self, outcome: AppendOutcome, reason: str) -> None:
        """End all appends that wait."""
        for append in self._appends:
            self.replica.effects.append(FinishAppend(append.token, outcome, append.message_id, reason=reason))
        self._appends.clear()
        self.pending_bytes = 0

    @property
    def idle(self) -> bool:
        """True if no append waits."""
        return not self._appends

    # What is written

    def take_writes(self) -> tuple[Range, ...]:
        """What the next commit stores."""
        replica = self.replica
        most = replica.settings.commit_records
        own, self._own_writes = self._own_writes[:most], self._own_writes[most:]
        if own:
            self._writes.append(Range(replica.incarnation, own[0].sequence - 1, own[-1].sequence, tuple(own)))
        taken = count = 0
        for found in self._writes:
            if taken and count + len(found.records) > most:
                break
            taken, count = taken + 1, count + len(found.records)
        writes, self._writes = tuple(self._writes[:taken]), self._writes[taken:]
        return writes

    @property
    def unwritten(self) -> bool:
        """True if something is to be committed."""
        return bool(self._writes or self._own_writes)

    def committed(self, ranges: Sequence[Range]) -> None:
        """The ranges are on the disk."""
        replica, live = self.replica, self.replica.live_origins()
        for found in ranges:
            replica.vector[found.origin] = max(found.upto, replica.vector.get(found.origin, 0))
            self._unstable.add(found.origin)
            if found.origin not in live:
                for peer in replica.peers.values():
                    peer.origins.add(found.origin)
        waiting = self._answers
        self._answers = []
        for origin, upto, token, request in waiting:
            if replica.vector.get(origin, 0) >= upto:
                self._answer(token, request)
            else:
                self._answers.append((origin, upto, token, request))

    def discard(self) -> None:
        """A commit failed: nothing that was not committed counts any more."""
        replica = self.replica
        self._writes, self._own_writes = [], []
        self.recent.clear()
        replica.pending = dict(replica.vector)
        for *_, token, request in self._answers:
            self._answer(token, request)
        self._answers = []

    def reborn(self) -> None:
        """Begin the numbers anew: there is a new incarnation."""
        replica = self.replica
        replica.changed.add(replica.incarnation)
        replica.watermark = 0
        for peer in replica.peers.values():
            peer.watermark_sent = peer.watermark_wanted = 0
            peer.has_vector = False

    # What peers send

    def receive(self, token: Token, request: Replicate) -> None:
        """Take the records of a peer; it is answered when they are on the disk."""
        replica = self.replica
        sender = replica.in_sync.find(Identity(request.node, request.incarnation))
        if 0 < request.term <= replica.in_sync.term and replica.member() and not sender:
            self._answer(token, request)  # the sender is fenced, and learns it from the set in the answer
            return
        have = replica.pending.get(request.origin, 0)
        if request.after <= have < request.upto:
            new = tuple(record for record in request.records if record.sequence > have)
            self._writes.append(Range(request.origin, have, request.upto, new))
            have = replica.pending[request.origin] = request.upto
            replica.changed.add(request.origin)
            self._unstable.add(request.origin)
        if sender:
            self.learn_watermark(request.incarnation, request.confirmed)
        wanted = min(have, request.upto)
        if replica.vector.get(request.origin, 0) >= wanted:
            self._answer(token, request)
        else:
            self._answers.append((request.origin, wanted, token, request))

    def _answer(self, token: Token, request: Replicate) -> None:
        replica = self.replica
        sender = replica.in_sync.find(Identity(request.node, request.incarnation))
        lowest = request.term + 1 if sender else request.term  # without a registry two sets may have one term
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

    # What peers confirm

    def replicated(self, peer: Peer, request: Replicate, reply: Replicated) -> None:
        """A peer has answered a Replicate."""
        peer.vector[reply.origin] = max(reply.upto, peer.vector.get(reply.origin, 0))
        if reply.upto < request.upto:
            peer.sent[reply.origin] = reply.upto

    def learn_watermark(self, origin: int, confirmed: int) -> None:
        """An origin has said up to which number its records are on all disks of its in-sync set."""
        if confirmed > self.replica.watermarks.get(origin, 0):
            self.replica.watermarks[origin] = confirmed
            self._unstable.add(origin)

    def advance(self) -> None:
        """Acknowledge what all members have confirmed, and note what is known to be on all in-sync disks."""
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
        """Raise the stable number of each origin: to its own watermark, or to the lowest that every member reports."""
        replica = self.replica
        for origin in tuple(self._unstable):
            have = replica.vector.get(origin, 0)
            everywhere = min([have, *(peer.vector.get(origin, 0) for peer in replica.members)])
            said = self.replica.watermark if origin == replica.incarnation else replica.watermarks.get(origin, 0)
            stable = max(everywhere if origin != replica.incarnation else 0, min(said, have))
            self._stable[origin] = max(stable, self._stable.get(origin, 0))
            if self._stable[origin] >= replica.pending.get(origin, 0):
                self._unstable.discard(origin)

    def is_stable(self, versions: Mapping[int, int]) -> bool:
        """True if everything that this vector covers is on the disks of a whole in-sync set."""
        return all(
            self._stable.get(origin, 0) >= versions.get(origin, 0) for origin in self._unstable if origin in versions
        )

    def recheck(self) -> None:
        """Before this replica serves: look again at every origin, with what the members of its set have."""
        self._unstable.update(self.replica.vector)
        self._advance_stable()

    # The watermark, when no Replicate takes it along

    def ask_whether_confirmed(self, versions: Mapping[int, int]) -> bool:
        """Ask each listed origin for its watermark, and all members about other origins; False if that is under way."""
        replica, listed = self.replica, {one.incarnation for one in self.replica.in_sync.listed}
        waits_for = {
            origin: upto
            for origin in self._unstable - {replica.incarnation}
            if (upto := versions.get(origin, 0)) > self._stable.get(origin, 0)
        }
        asks = False
        for peer in replica.members:
            wanted = {
                origin: upto for origin, upto in waits_for.items() if origin == peer.incarnation or origin not in listed
            }
            if not covers(peer.asked, wanted):
                merge(peer.asked, wanted.items())
                replica.heartbeat(peer, wants_confirmed=True)
                asks = True
        return asks

    def wants_watermark(self, peer: Peer, pending: Mapping[int, int]) -> None:
        """Note up to which own record the readers of a peer wait: what the peer has, or is about to commit."""
        own = self.replica.incarnation
        peer.watermark_wanted = max(peer.vector.get(own, 0), pending.get(own, 0))
        peer.watermark_sent = self.replica.watermark  # the answer tells it

    def lacks_watermark(self, peer: Peer) -> bool:
        """True if the readers of a peer wait for a watermark that it has not been sent."""
        return peer.watermark_sent < min(peer.watermark_wanted, self.replica.watermark)

    def watermark_due_s(self) -> float | None:
        """The latest time to send the watermark to members whose readers wait for it; None if none waits."""
        waits = any(map(self.lacks_watermark, self.replica.members))
        return self._advanced_s + self.replica.settings.watermark_s if waits else None
