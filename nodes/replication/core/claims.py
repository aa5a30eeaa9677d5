"""Idempotency keys: one replica decides about each key, so that one key is one message.

The owner of a key is chosen by rendezvous hashing among the listed replicas. A key is stored with its message, so it is
replicated like everything else. When the in-sync set changes, a new owner may not know yet what the last one has
accepted: it decides again when it has everything that the other members had when they took over the new set.
"""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

from nodes.replication.core.effects import AppendOutcome, FindKey, FinishAppend, Forward, Token
from nodes.replication.core.records import Records
from nodes.replication.core.state import Phase, Replica, covers

WAITING_KEYS = 10_000  # appends that wait for a look-up; one more is refused
FAILED_KEYS = 10_000  # that are remembered after a commit failed


class KeyedAppend(NamedTuple):
    """A message with an idempotency key."""

    token: Token
    message_id: str
    text: str
    key: str
    digest: str
    forwarded: bool


class Claims:
    """Gives each key to one message.

    Args:
        replica: the state of this replica.
        records: takes the messages.
        digest: of a text, by which two messages with one key are compared.
    """

    def __init__(self, replica: Replica, records: Records, digest: Callable[[str], str]) -> None:
        self.replica = replica
        self._records = records
        self._digest = digest
        self._waiting: dict[str, list[KeyedAppend]] = {}
        self._finding: dict[str, int] = {}  # keys that are looked up, and the term in which that began
        self._taken: dict[str, tuple[int, str, str]] = {}  # accepted, not committed: number, id, digest
        self._failed: dict[str, tuple[str, str]] = {}  # whose commit failed here: a peer may have the message

    def append(self, append: KeyedAppend) -> None:
        """Store a keyed message under the id with which its key came first."""
        if sum(map(len, self._waiting.values())) >= WAITING_KEYS:
            self._finish(append, AppendOutcome.REFUSED, f"{WAITING_KEYS} messages wait for a look-up of their keys")
            return
        self._waiting.setdefault(append.key, []).append(append)
        self._look_up(append.key)

    def advance(self) -> None:
        """The in-sync set or the vectors have changed: look up what waits."""
        for key in tuple(self._waiting):
            self._look_up(key)

    def committed(self) -> None:
        """Own records are on the disk: the journal knows their keys."""
        upto = self.replica.vector.get(self.replica.incarnation, 0)
        while self._taken and (first := next(iter(self._taken.items())))[1][0] <= upto:
            del self._taken[first[0]]

    def commit_failed(self) -> None:
        """What was taken and is not committed here may be on the disk of a peer: it keeps its id."""
        self._failed |= {key: (message_id, digest) for key, (_, message_id, digest) in self._taken.items()}
        while len(self._failed) > FAILED_KEYS:
            del self._failed[next(iter(self._failed))]

    def fail(self, reason: str) -> None:
        """Decide nothing: this replica is not in sync."""
        for appends in self._waiting.values():
            for append in appends:
                self._finish(append, AppendOutcome.REFUSED, reason)
        self._waiting.clear()
        self._taken.clear()

    def found(self, key: str, message_id: str, digest: str, failed: str = "") -> None:
        """The message of a key, "" for none, as the journal has it; or why the look-up `failed`."""
        if failed:
            self._finding.pop(key, None)
            for append in self._waiting.pop(key, []):
                self._finish(append, AppendOutcome.REFUSED, failed)
        elif self._finding.pop(key, -1) != self.replica.in_sync.term or not self.may_decide():
            self._look_up(key)
        else:
            for append in self._waiting.pop(key, []):
                self._decide(append, *self._taken.get(key, (0, message_id, digest))[1:])

    def may_decide(self) -> bool:
        """True if everything is here that the other members had when they took over the current set."""
        replica = self.replica
        return replica.adopting is None and all(
            peer.target is not None and covers(replica.vector, peer.target) for peer in replica.members
        )

    def _look_up(self, key: str) -> None:
        replica = self.replica
        appends = self._waiting.get(key, [])
        if replica.phase is not Phase.READY or not appends:
            return
        if (owner := self.owner(key)) != replica.own:
            for append in self._waiting.pop(key):
                if append.forwarded:
                    self._finish(append, AppendOutcome.REFUSED, f"{owner} decides about this idempotency key")
                else:
                    replica.effects.append(Forward(append.token, owner))
        elif key in self._taken:
            for append in self._waiting.pop(key):
                self._decide(append, *self._taken[key][1:])
        elif key not in self._finding and self.may_decide():
            self._finding[key] = replica.in_sync.term
            replica.effects.append(FindKey(key))

    def _decide(self, append: KeyedAppend, message_id: str, digest: str) -> None:
        if not message_id:
            message_id, digest = self._failed.get(append.key, ("", ""))
        if message_id and digest != append.digest:
            self._finish(append, AppendOutcome.CONFLICT, "this idempotency key came with another text before")
            return
        message_id = message_id or append.message_id
        self._records.append(append.token, [(message_id, append.text, append.key)], message_id)
        number = self.replica.pending[self.replica.incarnation]
        self._taken[append.key] = (number, message_id, append.digest)

    def owner(self, key: str) -> str:
        """The listed replica that decides about a key."""
        addresses = [one.address for one in self.replica.in_sync.listed]
        return max(addresses, key=lambda address: hashlib.sha256(f"{address} {key}".encode()).digest())

    def _finish(self, append: KeyedAppend, outcome: AppendOutcome, reason: str) -> None:
        self.replica.effects.append(FinishAppend(append.token, outcome, append.message_id, reason=reason))
