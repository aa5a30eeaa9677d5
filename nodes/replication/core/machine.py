"""The replication core: a state machine without I/O, clock or chance. See DESIGN.md in the folder above.

Each event is a method call with the current time; `take` returns the effects that the runtime must execute.
"""

from collections.abc import Mapping, Sequence

from common.protocol.codec import Reply, Request
from common.protocol.content import Entry
from common.protocol.messages import Code, failure
from common.protocol.replication import Heartbeat, InSyncSet, Join, Renewed, ReplicaState, Replicate, Replicated
from nodes.replication.core.claims import Claims, KeyedAppend
from nodes.replication.core.effects import (
    AnswerPeer,
    AppendOutcome,
    Commit,
    Effect,
    FinishAppend,
    NewIncarnation,
    Opened,
    Range,
    RegistryRequest,
    Settings,
    Token,
)
from nodes.replication.core.membership import Membership
from nodes.replication.core.records import Records
from nodes.replication.core.sending import Sender
from nodes.replication.core.state import Phase, Replica

PeerRequest = Join | Heartbeat | Replicate
DEFAULT = Settings()


class Core:
    """The state machine of one replica.

    Args:
        own: host:port of this node.
        opened: the contents of its journal when it was opened.
        configured: host:port of every logging node in the configuration.
        settings: times and limits.
        now_s: the time, in seconds since any fixed moment.

    Attributes:
        replica: the state of this replica; only the core changes it.
    """

    def __init__(
        self, own: str, opened: Opened, configured: Sequence[str], settings: Settings = DEFAULT, *, now_s: float
    ) -> None:
        self.replica = Replica(own, opened, settings, now_s)
        self.records = Records(self.replica)
        self._sender = Sender(self.replica, self.records)
        self._membership = Membership(self.replica, self.records, configured)
        self._claims = Claims(self.replica, self.records)
        self._committing: Commit | None = None
        self._retry_write_s = 0.0

    # State

    @property
    def phase(self) -> Phase:
        """The phase of this replica."""
        return self.replica.phase

    @property
    def in_sync(self) -> InSyncSet:
        """The current in-sync set; without members while this replica is in none."""
        return self.replica.in_sync

    @property
    def left(self) -> bool:
        """True if this replica was asked to leave, and is in no in-sync set any more."""
        return self.replica.leaving and not self.replica.in_sync.members

    @property
    def busy(self) -> bool:
        """True if the core waits for an answer, so that it needs frequent ticks."""
        return self.replica.busy

    def may_show(self, versions: Mapping[int, int]) -> bool:
        """True if all records that the vector covers are on the disks of an in-sync set, or this replica was fenced."""
        fenced = self.replica.phase is Phase.JOINING
        return fenced or (not self.replica.suspended and self.records.is_stable(versions))

    def ask_whether_confirmed(self, versions: Mapping[int, int], now_s: float) -> bool:
        """Ask the members whether the records of a vector are confirmed; False if they have been asked already."""
        self.replica.now_s = now_s
        return self.records.ask_whether_confirmed(versions)

    def why_joining(self) -> str:
        """The reason why this replica is not in sync yet, as a sentence for operators."""
        return self._membership.joiner.why_joining()

    def why_not_written(self) -> str:
        """The reason why an append is refused now; empty if appends are accepted."""
        replica = self.replica
        if self.replica.read_only:
            return f"nothing can be written: {self.replica.read_only}"
        if replica.phase is not Phase.READY:
            return f"this replica is {replica.phase.value}"
        if replica.suspended:
            return "this process stood still, and asks a registry whether it is still in sync"
        if (listed := len(replica.in_sync.listed)) < replica.settings.min_in_sync:
            return f"{listed} replicas are in sync, and min_in_sync is {replica.settings.min_in_sync}"
        if self.records.pending_bytes > replica.settings.pending_bytes:
            return f"over {replica.settings.pending_bytes} bytes wait for their confirmation"
        return ""

    # Clients

    def append(self, token: Token, entries: Sequence[Entry], now_s: float) -> None:
        """Store messages; a key is stored without a check."""
        self.replica.now_s = now_s
        if reason := self.why_not_written():
            self.replica.effects.append(FinishAppend(token, AppendOutcome.REFUSED, reason=reason))
        else:
            self.records.append(token, entries)

    def append_keyed(self, append: KeyedAppend, now_s: float) -> None:
        """Store a keyed message, under the id of the first message with its key if there is one."""
        self.replica.now_s = now_s
        if reason := self.why_not_written():
            refused = FinishAppend(append.token, AppendOutcome.REFUSED, append.entry.id, reason=reason)
            self.replica.effects.append(refused)
        else:
            self._claims.append(append)

    def key_found(self, key: str, message_id: str, text_digest: str, now_s: float, *, failed: str = "") -> None:
        """Handle the result of FindKey: id and digest of the key's message, both "" for none, or why it `failed`."""
        self.replica.now_s = now_s
        self._claims.found(key, message_id, text_digest, failed)

    # Peers

    def request(self, token: Token, message: PeerRequest, now_s: float) -> None:
        """Handle a request of a peer."""
        self.replica.now_s = now_s
        match message:
            case Join():
                self.replica.effects.append(AnswerPeer(token, self._membership.receive_join(message)))
            case Heartbeat():
                self.replica.effects.append(AnswerPeer(token, self._membership.receive_heartbeat(message)))
            case Replicate() if self.replica.read_only:
                self.replica.effects.append(AnswerPeer(token, failure(Code.STARTING, self.why_not_written())))
            case Replicate():
                self.records.receive(token, message)

    def answered(self, address: str, number: int, message: Request, reply: Reply | None, now_s: float) -> None:
        """Handle a peer's answer to a request; None: there is none, and will be none."""
        peer, self.replica.now_s = self.replica.peer(address), now_s
        sent_s = peer.unanswered.pop(number, None)
        peer.window.pop(number, None)
        if sent_s is None:
            return
        if reply is not None:
            peer.connected, peer.refused = True, False
        match reply:
            case Replicated() if reply.incarnation != peer.incarnation:
                peer.restarted(reply.incarnation)
            case Replicated() if isinstance(message, Replicate):
                peer.answer_s, peer.answered_s = now_s - sent_s, now_s
                if reply.in_sync:
                    self._membership.consider(reply.in_sync, peer.identity)
                self.records.replicated(peer, message, reply)
            case ReplicaState() if isinstance(message, Join | Heartbeat):
                self._membership.receive_state(message, reply, sent_s)
            case _:
                peer.resend()
                peer.failed_s = now_s if peer.failed_s is None else peer.failed_s
                peer.paused_s = now_s + self.replica.settings.retry_s
                return
        peer.failed_s = None

    def connection(self, address: str, now_s: float, *, up: bool, refused: bool = False) -> None:
        """Handle a new or lost connection to a peer; `refused`: its host refuses one, so its process has ended."""
        peer, self.replica.now_s = self.replica.peer(address), now_s
        peer.connected, peer.refused = up, refused
        if not up:
            peer.lost()

    # Disk

    def committed(self, commit: Commit, now_s: float) -> None:
        """Handle the end of a commit: it is flushed."""
        self.replica.now_s, self._committing = now_s, None
        self.records.committed(commit.ranges)
        self._claims.committed()
        if commit.in_sync:
            self._membership.adopted(commit.in_sync)

    def commit_failed(self, reason: str, now_s: float) -> None:
        """Handle a failed commit, which stored nothing: this incarnation ends, and its numbers are not used again."""
        self.replica.now_s = now_s
        self._committing, self.replica.read_only = None, reason
        self._retry_write_s = now_s + self.replica.settings.heartbeat_s
        self.records.discard()
        self.records.fail_appends(AppendOutcome.UNKNOWN, reason)
        self._claims.commit_failed()
        self._claims.fail(reason)
        if self.replica.members:
            self._membership.request_removal()

    def begin_incarnation(self, incarnation: int, now_s: float) -> None:
        """Handle a new, stored incarnation: the disk accepts writes again."""
        self.replica.now_s = now_s
        if self._membership.begin_incarnation(incarnation):
            self.replica.read_only = ""

    def loaded(self, address: str, found: Range | None, now_s: float) -> None:
        """Send a peer the records that were read for it; None: they could not be read."""
        peer, self.replica.now_s = self.replica.peer(address), now_s
        if found:
            self._sender.loaded(peer, found)
        else:
            peer.loading, peer.paused_s = False, now_s + self.replica.settings.retry_s

    # Registries

    def registry_answered(
        self,
        message: RegistryRequest,
        reply: Renewed | None,
        now_s: float,
        *,
        renewed_s: float,
        others: Sequence[Renewed] = (),
    ) -> None:
        """Handle the answer of the deciding registry, None if none answered, and the answers of the `others`.

        `renewed_s`: when the last renewal that a registry may have received was sent.
        """
        self.replica.now_s = now_s
        incarnation = self.replica.incarnation
        self._membership.registry_answered(message, reply, renewed_s, others)
        if self.replica.incarnation != incarnation:
            self.replica.read_only = ""

    # Time

    def serve(self, now_s: float) -> None:
        """Let this replica be listed: the storage of this node is open."""
        self.replica.now_s = now_s
        self.replica.can_serve = True

    def leave(self, now_s: float) -> None:
        """Refuse new appends, finish the accepted ones, and leave the in-sync set."""
        self.replica.now_s, self.replica.leaving = now_s, True
        if self.replica.phase is Phase.READY:
            self.replica.phase = Phase.LEAVING

    def stood_still(self, seconds: float, now_s: float) -> None:
        """Restart all timers after a standstill: messages that arrived meanwhile are not handled yet."""
        self.replica.now_s = now_s
        for peer in self.replica.peers.values():
            peer.unanswered = dict.fromkeys(peer.unanswered, now_s)
        if seconds >= self.replica.settings.suspend_s and self.replica.phase is not Phase.JOINING:
            self._membership.suspend()

    def tick(self, now_s: float) -> None:
        """Do what is due; the runtime calls this several times in each `confirm_s`."""
        replica = self.replica
        replica.now_s = now_s
        if self.replica.read_only and now_s >= self._retry_write_s and self._committing is None:
            self._retry_write_s = now_s + replica.settings.heartbeat_s
            replica.effects.append(NewIncarnation())
        self._membership.tick()
        if replica.phase is Phase.LEAVING and self.records.idle:
            self._membership.request_removal()

    def due_s(self) -> float | None:
        """The latest time of the next call of `take`; None: not before the next event or tick."""
        return self.records.watermark_due_s()

    def take(self, now_s: float) -> list[Effect]:
        """The effects to execute now, after one or more events."""
        replica = self.replica
        replica.now_s = now_s
        self.records.advance()
        if replica.phase is not Phase.READY:
            self._claims.fail("this replica is not in sync")
        else:
            self._claims.advance()
        for peer in replica.peers.values():
            if peer.connected and replica.linked(peer):
                self._sender.pump(peer)
        if (due_s := self.records.watermark_due_s()) is not None and now_s >= due_s:
            for peer in filter(self.records.lacks_watermark, replica.members):
                replica.heartbeat(peer)
        self._commit()
        effects, replica.effects = replica.effects, []
        return effects

    def _commit(self) -> None:
        replica = self.replica
        if self._committing or replica.read_only or not (self.records.unwritten or replica.adopting):
            return
        self._committing = Commit(self.records.take_writes(), replica.adopting)
        replica.effects.append(self._committing)
