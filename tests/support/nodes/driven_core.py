"""One replication core whose peers, disk, registry, clients and clock are driven by a test."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from common.protocol.codec import Reply
from common.protocol.content import Entry
from common.protocol.replication import (
    Admit,
    Heartbeat,
    Identity,
    InSyncSet,
    Join,
    Member,
    Record,
    Renew,
    Renewed,
    ReplicaState,
    Replicate,
    Replicated,
    Standing,
)
from common.protocol.vectors import VectorEntry
from nodes.replication.core.claims import KeyedAppend
from nodes.replication.core.effects import (
    AnswerPeer,
    AppendOutcome,
    AskRegistries,
    Commit,
    Effect,
    FinishAppend,
    Opened,
    Send,
    Settings,
)
from nodes.replication.core.machine import DEFAULT, Core, PeerRequest
from nodes.storage.protocol import digest

A, B, C = ADDRESSES = ("a:1", "b:1", "c:1")
INCARNATION = {A: 1, B: 2, C: 3}
NEVER_S = float("-inf")
TOKEN = "token"  # noqa: S105 - the name of the one request of a client in a test

E = TypeVar("E", bound=Effect)


def identity(address: str) -> Identity:
    """The identity of the replica at an address."""
    return Identity(address, INCARNATION[address])


def set_of(term: int, *listed: str, joining: Sequence[str] = (), since: int = 1) -> InSyncSet:
    """An in-sync set with listed and with joining members, which have been in it since one term."""
    members = [Member(one, INCARNATION[one], since, listed=True) for one in listed]
    members += [Member(one, INCARNATION[one], since, listed=False) for one in joining]
    return InSyncSet(term, tuple(sorted(members)))


def id_of(number: int) -> str:
    """The message id with a number."""
    return f"01900000-0000-7000-8000-{number:012}"


def vector(versions: Mapping[str, int]) -> tuple[VectorEntry, ...]:
    """A version vector, given by the addresses of the origins."""
    return tuple(VectorEntry(INCARNATION[address], upto) for address, upto in versions.items())


def _listed(in_sync: InSyncSet) -> tuple[str, ...]:
    return tuple(one.address for one in in_sync.listed)


class DrivenCore:
    """The core of replica B among A, B and C. Commits succeed at once, unless `disk_waits` is set.

    Attributes:
        effects: the effects since `clear_effects`, without commits.
        commits: the commits that wait for the disk.
    """

    def __init__(self, *, opened: Opened | None = None, settings: Settings = DEFAULT) -> None:
        self.now_s = 100.0
        self.core = Core(B, opened or Opened(INCARNATION[B]), ADDRESSES, settings, now_s=self.now_s)
        self.core.serve(self.now_s)
        self.effects: list[Effect] = []
        self.commits: list[Commit] = []
        self.disk_waits = False
        self._tokens = self._ids = 0

    @classmethod
    def in_sync(cls, term: int = 5, settings: Settings = DEFAULT) -> "DrivenCore":
        """B in an in-sync set with A and C, each of which has reported an empty vector."""
        driven = cls(settings=settings)
        driven.registry_renews(set_of(term, A, B, C))
        for peer in (A, C):
            driven.beats(peer, set_of(term, A, B, C))
        driven.peers_answer()
        driven.registry_renews(set_of(term, A, B, C))
        driven.clear_effects()
        return driven

    # What the core does

    def run(self) -> None:
        """Take effects until there are none."""
        while effects := self.core.take(self.now_s):
            for effect in effects:
                if not isinstance(effect, Commit):
                    self.effects.append(effect)
                elif self.disk_waits:
                    self.commits.append(effect)
                else:
                    self.core.committed(effect, self.now_s)

    def flush(self) -> None:
        """Finish the commits that wait, and finish later ones at once."""
        self.disk_waits = False
        commits, self.commits = self.commits, []
        for commit in commits:
            self.core.committed(commit, self.now_s)
        self.run()

    def clear_effects(self) -> None:
        """Forget the effects so far, so that a test sees only the later ones."""
        self.effects = []

    def effects_of(self, kind: type[E]) -> list[E]:
        """The effects of one kind."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def asked_registries(self, kind: type) -> list[AskRegistries]:
        """The requests of one kind to the registries."""
        return [effect for effect in self.effects_of(AskRegistries) if isinstance(effect.message, kind)]

    def finished(self) -> list[FinishAppend]:
        """The effects that end appends."""
        return self.effects_of(FinishAppend)

    def outcomes(self) -> list[AppendOutcome]:
        """The outcomes of the appends that ended."""
        return [finish.outcome for finish in self.finished()]

    # Time and registry

    def after(self, seconds: float) -> None:
        """Advance the clock, and tick."""
        self.now_s += seconds
        self.core.tick(self.now_s)
        self.run()

    def registry_renews(
        self, in_sync: InSyncSet, *, standing: Standing = Standing.LISTED, others: Sequence[InSyncSet] = ()
    ) -> None:
        """Answer a renewal, as the deciding registry and as others that have other sets."""
        reply = Renewed(registry=1, standing=standing, in_sync=in_sync, live=_listed(in_sync))
        standings = [Standing.LISTED if B in _listed(one) else Standing.OUTSIDE for one in others]
        replies = [
            Renewed(registry=2, standing=found, in_sync=one, live=_listed(one))
            for found, one in zip(standings, others, strict=True)
        ]
        self.core.registry_answered(self._renewal(), reply, self.now_s, renewed_s=self.now_s, others=replies)
        self.run()

    def registry_answers(self, asked: AskRegistries, in_sync: InSyncSet, *, live: tuple[str, ...]) -> None:
        """Answer a request as a registry that has this set, of which it lists the addresses in `live`."""
        reply = Renewed(registry=1, standing=Standing.LISTED, in_sync=in_sync, live=live)
        self.core.registry_answered(asked.message, reply, self.now_s, renewed_s=NEVER_S)
        self.run()

    def no_registry(self, asked: AskRegistries, *, renewed_s: float = NEVER_S) -> None:
        """Leave a request unanswered; a registry may have received the renewal that was sent at `renewed_s`."""
        self.core.registry_answered(asked.message, None, self.now_s, renewed_s=renewed_s)
        self.run()

    def takes_incarnation(self, incarnation: int, in_sync: InSyncSet) -> None:
        """Drop the waiting commits, begin a new incarnation, and let a registry put it into B's place in the set."""
        self.disk_waits, self.commits = False, []
        self.core.begin_incarnation(incarnation, self.now_s)
        self.run()
        members = tuple(one._replace(incarnation=incarnation) if one.address == B else one for one in in_sync.members)
        newer = InSyncSet(in_sync.term + 1, members)
        self.registry_answers(self.asked_registries(Admit)[-1], newer, live=_listed(newer))
        for peer in (A, C):
            self.beats(peer, newer)
        self.peers_answer()

    def _renewal(self) -> Renew:
        return self.core.replica.renewal(self.core.in_sync)

    # Clients

    def append(self, text: str = "text") -> None:
        """Append a message of a client."""
        self._ids += 1
        self.core.append(TOKEN, [Entry(id_of(self._ids), text)], self.now_s)
        self.run()

    def append_keyed(self, key: str, *, text: str = "text", number: int = 1, forwarded: bool = False) -> None:
        """Append a message with an idempotency key and the id of a number."""
        entry = Entry(id_of(number), text, key=key)
        append = KeyedAppend(TOKEN, entry, digest(entry), forwarded)
        self.core.append_keyed(append, self.now_s)
        self.run()

    # Peers

    def beats(
        self,
        peer: str,
        in_sync: InSyncSet,
        *,
        has: Mapping[str, int] | None = None,
        commits: Mapping[str, int] | None = None,
        watermark: int = 0,
        wants_watermark: bool = False,
        incarnation: int | None = None,
    ) -> None:
        """Receive a heartbeat of a peer, or of another process at its address.

        Args:
            peer: the address of the peer.
            in_sync: the in-sync set of the peer.
            has: the version vector of the peer, by the addresses of the origins.
            commits: the same with the records that the peer is committing.
            watermark: the sequence up to which all members have the records of the peer.
            wants_watermark: True if readers at the peer wait for a confirmation of B.
            incarnation: that of another process at the address.
        """
        self._request(
            Heartbeat(
                node=peer,
                incarnation=incarnation or INCARNATION[peer],
                in_sync=in_sync,
                vector=vector(has or {}),
                pending=vector(commits or {}),
                watermark=watermark,
                wants_watermark=wants_watermark,
            )
        )

    def joins(self, peer: str, *, has: Mapping[str, int] | None = None, term: int = 0) -> None:
        """Receive a Join with a request for records from a peer that left the set of a term."""
        self._request(
            Join(
                node=peer,
                incarnation=INCARNATION[peer],
                in_sync=InSyncSet(term, ()),
                vector=vector(has or {}),
                wants_records=True,
                can_serve=True,
            )
        )

    def replicates(
        self, peer: str, *, term: int, origin: str, upto: int, after: int = 0, watermark: int = 0
    ) -> Reply | None:
        """Receive records of an origin from a peer; the answer, or None while the disk waits."""
        records = tuple(
            Record(number, id_of(1_000 * INCARNATION[origin] + number), f"text {number} of {origin}")
            for number in range(after + 1, upto + 1)
        )
        return self._request(
            Replicate(
                node=peer,
                incarnation=INCARNATION[peer],
                term=term,
                origin=INCARNATION[origin],
                after=after,
                upto=upto,
                records=records,
                watermark=watermark,
            )
        )

    def _request(self, message: PeerRequest) -> Reply | None:
        """Receive a request of a peer; the answer, or None while the disk waits."""
        self._tokens += 1
        self.core.request(self._tokens, message, self.now_s)
        self.run()
        return next((effect.message for effect in self.effects_of(AnswerPeer) if effect.token == self._tokens), None)

    def confirms(self, peer: str) -> None:
        """Confirm all records that were sent to a peer."""
        for send in self.effects_of(Send):
            if send.address == peer and isinstance(send.message, Replicate):
                reply = Replicated(
                    node=peer,
                    incarnation=INCARNATION[peer],
                    term=send.message.term,
                    origin=send.message.origin,
                    upto=send.message.upto,
                )
                self.core.answered(peer, send.number, send.message, reply, self.now_s)
        self.run()

    def peers_answer(self, *peers: str) -> None:
        """Answer each heartbeat and Join to these peers, or to all, with an empty vector; see also `confirms`."""
        for send in self.effects_of(Send):
            if send.address in (peers or ADDRESSES) and isinstance(send.message, Heartbeat | Join):
                self.answer(send)
        self.run()

    def answer(self, send: Send, *, has: Mapping[str, int] | None = None) -> None:
        """Answer a request to a peer, which is a ready member of the same set and has this vector."""
        assert isinstance(send.message, Heartbeat | Join)
        in_sync = send.message.in_sync
        state = ReplicaState(
            node=send.address,
            incarnation=INCARNATION[send.address],
            ready=True,
            can_serve=True,
            in_sync=in_sync,
            vector=vector(has or {}),
            pending=(),
            watermark=0,
        )
        self.core.answered(send.address, send.number, send.message, state, self.now_s)
