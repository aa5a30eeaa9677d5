"""Idempotency keys: one replica, the owner, decides about each key, so that each key has one message.

Rendezvous hashing among the listed replicas chooses the owner. A key is stored in the record of its message, and so is
replicated with it. When the in-sync set changes, a new owner may lack records that the previous one accepted. It
decides only when it has everything that the other members had when they adopted the new set.
"""

import hashlib
from typing import NamedTuple

from common.protocol.content import Entry
from nodes.replication.core.effects import AppendOutcome, FindKey, FinishAppend, Forward, Token
from nodes.replication.core.records import Records
from nodes.replication.core.state import Phase, Replica, covers

WAITING_KEYS = 10_000  # limit of appends that wait for a lookup, to bound memory; further ones are refused
FAILED_KEYS = 10_000  # limit of keys remembered after failed commits, to bound memory; the oldest are dropped


class KeyedAppend(NamedTuple):
    """An append of one message with an idempotency key.

    Attributes:
        token: identifies the append at the runtime.
        entry: the message with its key, and the id under which it is stored if the key is new.
        digest: the digest of the message, by which two messages with one key are compared.
        forwarded: another replica forwarded it to this one, as the owner of the key.
    """

    token: Token
    entry: Entry
    digest: str
    forwarded: bool


class Claims:
    """Appends keyed messages that this replica decides about, and forwards the others to the owners of their keys.

    Args:
        replica: the state of this replica.
        records: accepts the messages.
    """

    def __init__(self, replica: Replica, records: Records) -> None:
        self.replica = replica
        self._records = records
        self._waiting: dict[str, list[KeyedAppend]] = {}
        self._count = 0  # of the appends in `_waiting`
        self._looked_up: tuple[int, Phase, bool] | None = None  # the state in which all waiting keys were looked up
        self._finding: dict[str, int] = {}  # keys being looked up, and the term in which the lookup began
        self._uncommitted: dict[str, tuple[int, str, str]] = {}  # accepted keys: sequence number, message id, digest
        self._failed: dict[str, tuple[str, str]] = {}  # keys whose commit failed: message id, digest; peers may have it

    def append(self, append: KeyedAppend) -> None:
        """Store a keyed message, under the id of the first message with its key if there is one."""
        if self._count >= WAITING_KEYS:
            self._finish(append, AppendOutcome.REFUSED, f"{WAITING_KEYS} messages wait for a lookup of their keys")
            return
        self._waiting.setdefault(append.entry.key, []).append(append)
        self._count += 1
        self._look_up(append.entry.key)

    def advance(self) -> None:
        """Look up the waiting keys, if what decides about them has changed since they were looked up."""
        state = (self.replica.in_sync.term, self.replica.phase, self.may_decide())
        if state != self._looked_up:
            self._looked_up = state
            for key in tuple(self._waiting):
                self._look_up(key)

    def committed(self) -> None:
        """Forget keys whose records are on the disk: from now on the journal finds them."""
        upto = self.replica.vector.get(self.replica.incarnation, 0)
        while self._uncommitted and (first := next(iter(self._uncommitted.items())))[1][0] <= upto:
            del self._uncommitted[first[0]]

    def commit_failed(self) -> None:
        """Remember the ids of uncommitted keys: a peer may have stored them, so a retry must get the same id."""
        self._failed |= {key: (message_id, digest) for key, (_, message_id, digest) in self._uncommitted.items()}
        while len(self._failed) > FAILED_KEYS:
            del self._failed[next(iter(self._failed))]

    def fail(self, reason: str) -> None:
        """Refuse all waiting appends: this replica is not in sync."""
        for appends in self._waiting.values():
            for append in appends:
                self._finish(append, AppendOutcome.REFUSED, reason)
        self._waiting.clear()
        self._count = 0
        self._uncommitted.clear()

    def found(self, key: str, message_id: str, digest: str, failed: str = "") -> None:
        """Decide about a key that the journal has looked up.

        Args:
            key: the idempotency key.
            message_id: the id of the stored message with this key; "" for none.
            digest: its digest; "" for none.
            failed: why the lookup failed; "" if it did not.
        """
        if failed:
            self._finding.pop(key, None)
            for append in self._take(key):
                self._finish(append, AppendOutcome.REFUSED, failed)
        elif self._finding.pop(key, -1) != self.replica.in_sync.term or not self.may_decide():
            self._looked_up = None  # if it cannot be looked up now, `advance` does it
            self._look_up(key)
        else:
            for append in self._take(key):
                self._decide(append, *self._uncommitted.get(key, (0, message_id, digest))[1:])

    def may_decide(self) -> bool:
        """True if this replica has everything that the other members had when they adopted the current set."""
        replica = self.replica
        return replica.adopting is None and all(
            peer.target is not None and covers(replica.vector, peer.target) for peer in replica.members
        )

    def _take(self, key: str) -> list[KeyedAppend]:
        appends = self._waiting.pop(key, [])
        self._count -= len(appends)
        return appends

    def _look_up(self, key: str) -> None:
        replica = self.replica
        appends = self._waiting.get(key, [])
        if replica.phase is not Phase.READY or not appends:
            return
        if (owner := self.owner(key)) != replica.own:
            for append in self._take(key):
                if append.forwarded:
                    self._finish(append, AppendOutcome.REFUSED, f"{owner} decides about this idempotency key")
                else:
                    replica.effects.append(Forward(append.token, owner))
        elif key in self._uncommitted:
            for append in self._take(key):
                self._decide(append, *self._uncommitted[key][1:])
        elif key not in self._finding and self.may_decide():
            self._finding[key] = replica.in_sync.term
            replica.effects.append(FindKey(key))

    def _decide(self, append: KeyedAppend, message_id: str, digest: str) -> None:
        if not message_id:
            message_id, digest = self._failed.get(append.entry.key, ("", ""))
        if message_id and digest != append.digest:
            self._finish(append, AppendOutcome.CONFLICT, "this idempotency key came with another message before")
            return
        message_id = message_id or append.entry.id
        self._records.append(append.token, [append.entry._replace(id=message_id)], message_id)
        number = self.replica.pending[self.replica.incarnation]
        self._uncommitted[append.entry.key] = (number, message_id, append.digest)

    def owner(self, key: str) -> str:
        """The address of the listed replica that decides about a key."""
        addresses = [one.address for one in self.replica.in_sync.listed]
        return max(addresses, key=lambda address: hashlib.sha256(f"{address} {key}".encode()).digest())

    def _finish(self, append: KeyedAppend, outcome: AppendOutcome, reason: str) -> None:
        self.replica.effects.append(FinishAppend(append.token, outcome, append.entry.id, reason=reason))
