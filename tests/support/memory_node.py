"""In-memory logging nodes for tests of the facade, and their registration at a registry."""

import asyncio
import threading
from collections.abc import Sequence

from common.errors import InvalidMessageError
from common.protocol import messages
from common.protocol.admin import Inspect, report
from common.protocol.codec import Reply, Request
from common.protocol.content import Entry
from common.protocol.messages import PAGE_MESSAGES, TAIL_S, Append, Code, Failure, Ping, Read, State, Tail
from common.protocol.replication import InSyncSet, Member, Record, Renew, Renewed
from common.protocol.vectors import VectorEntry
from nodes.reader import read_page
from nodes.replication.core.effects import Range
from nodes.storage.memory import MemoryJournal, MemoryTables
from nodes.storage.protocol import Claim, digest
from registry.directory import Directory


class SharedTables(MemoryTables):
    """Tables for several threads; `changed` is notified after each commit."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = threading.Condition()

    def commit(self, ranges: Sequence[Range], in_sync: InSyncSet | None) -> None:
        """See Tables."""
        with self.changed:
            super().commit(ranges, in_sync)
            self.changed.notify_all()


class MemoryNode:
    """Answers clients like a listed logging node. Nodes that share their tables have the same messages.

    A subclass that breaks a promise overrides `append`, `commit`, `read` or `tail`.

    Args:
        address: host:port of this node.
        tables: its messages; by default none.
        tail_s: seconds for which a Tail waits for a new message.
    """

    def __init__(self, address: str, tables: SharedTables | None = None, *, tail_s: float = TAIL_S) -> None:
        self.address = address
        self.incarnation = incarnation_of(address)
        self._tail_s = tail_s
        self._sequence, self._stopped = 0, False
        self.tables = SharedTables() if tables is None else tables
        self.tables.nodes[self.incarnation] = address
        self.journal = MemoryJournal(self.tables, lambda: self.incarnation)

    def stop(self) -> None:
        """Answer each Tail at once from now on."""
        with self.tables.changed:
            self._stopped = True
            self.tables.changed.notify_all()

    async def handle(self, request: Request) -> Reply:
        """Answer one request of a client; raises InvalidMessageError for any other request."""
        match request:
            case Ping():
                return messages.Status(service="logging-service", state=State.READY)
            case Inspect():
                return report("logging-service", State.READY, engine="memory", messages=len(self.tables.texts))
            case Append():
                return await self.append(request)
            case Read():
                return await self.read(request)
            case Tail():
                return await self.tail(request)
        raise InvalidMessageError(f"a node in memory does not answer {type(request).__name__}")

    async def append(self, request: Append) -> Reply:
        """Store messages; each with an idempotency key under the id with which the key was used first."""
        entries: list[Entry] = []
        stored_as: list[str] = []
        conflicts: list[int] = []
        claims: dict[str, Claim] = {}
        for place, entry in enumerate(request.entries):
            claim = (claims.get(entry.key) or await self.journal.find_key(entry.key)) if entry.key else None
            claims.setdefault(entry.key, claim or Claim(entry.id, digest(entry)))
            stored_as.append(claim.message_id if claim else entry.id)
            if claim and claim.digest != digest(entry):
                conflicts.append(place)
            else:
                entries.append(entry._replace(id=stored_as[-1]))
        vector = (VectorEntry(self.incarnation, await self.store(entries)),)
        if not any(entry.key for entry in request.entries):
            stored_as = []
        return messages.Appended(
            node=self.address, stored_as=tuple(stored_as), conflicts=tuple(conflicts), vector=vector
        )

    async def store(self, entries: Sequence[Entry]) -> int:
        """Commit messages as records of this node; returns the origin sequence of the last one."""
        with self.tables.changed:  # else another thread could commit a higher number first
            after, self._sequence = self._sequence, self._sequence + len(entries)
            records = tuple(
                Record(number, entry.id, entry.msg, entry.key or None, fields=entry.fields)
                for number, entry in enumerate(entries, after + 1)
            )
            await self.commit(Range(self.incarnation, after, after + len(entries), records))
        return after + len(entries)

    async def commit(self, found: Range) -> None:
        """Store records in every journal that must have them before they are acknowledged."""
        await self.journal.commit([found], None)

    async def read(self, request: Read) -> Reply:
        """A page of messages; BEHIND if this node lacks records that the session has seen."""
        vector = dict(self.tables.vector)
        if any(vector.get(origin, 0) < upto for origin, upto in request.session):
            return Failure(code=Code.BEHIND, reason=f"{self.address} has less than this session has seen")
        if request.search:
            bounds = (request.search, request.after, request.limit)
            entries, following = await self.journal.search(
                *bounds, before=request.before, newest_first=request.newest_first
            )
        else:
            entries, following = await read_page(self.journal, request)
        seen = tuple(VectorEntry(*entry) for entry in vector.items())
        return messages.Page(entries=tuple(entries), next=following, node=self.address, vector=seen)

    async def tail(self, request: Tail) -> Reply:
        """The messages that this node received after an arrival number; waits for the first one."""
        name, after = self.journal.name, request.after
        if request.journal == name:
            await asyncio.to_thread(self._wait, after)
        else:
            after = self.journal.last_arrival()
        last = max(after, self.journal.last_arrival())
        reached = min(last, after + PAGE_MESSAGES)
        found = await self.journal.arrivals(after, reached)
        entries = tuple(one.entry for one in found)
        return messages.Tailed(journal=name, entries=entries, next=reached, more=reached < last, node=self.address)

    def _wait(self, after: int) -> None:
        with self.tables.changed:
            self.tables.changed.wait_for(lambda: self._stopped or self.journal.last_arrival() > after, self._tail_s)


def incarnation_of(address: str) -> int:
    """The incarnation of the in-memory node at an address."""
    return 2 * int.from_bytes(address.encode()[-7:]) + 1


async def register_nodes(directory: Directory, addresses: Sequence[str]) -> None:
    """Register in-memory nodes, in sync with each other, at a new registry; it lists them until their leases lapse."""
    members = tuple(Member(address, incarnation_of(address), since=1, listed=True) for address in sorted(addresses))
    for address in addresses:
        await renew(directory, address, InSyncSet(1, members))


async def renew(directory: Directory, address: str, in_sync: InSyncSet, *, registry: int = 0) -> Renewed:
    """Renew the lease of an in-memory node that serves clients; returns the reply of the registry."""
    own = incarnation_of(address)
    reply = await directory.handle(Renew(node=address, incarnation=own, registry=registry, in_sync=in_sync, ready=True))
    assert isinstance(reply, Renewed)
    return reply if reply.registry == registry else await renew(directory, address, in_sync, registry=reply.registry)
