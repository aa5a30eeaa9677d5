"""In-memory stand-ins for logging nodes, and a registry that lists them: for tests of the facade."""

import asyncio
import threading
from collections.abc import Sequence

from common.errors import InvalidMessageError
from common.protocol import messages
from common.protocol.admin import Inspect, report
from common.protocol.codec import Reply, Request
from common.protocol.messages import (
    PAGE_MESSAGES,
    TAIL_S,
    Append,
    Code,
    Entry,
    Failure,
    Ping,
    Read,
    State,
    Tail,
)
from common.protocol.replication import InSyncSet, Member, Record, Renew, Renewed
from common.protocol.vectors import VectorEntry
from nodes.reader import read_page
from nodes.replication.core.effects import Range
from nodes.storage.memory import MemoryJournal, MemoryTables
from nodes.storage.protocol import digest
from registry.directory import Directory


class SharedTables(MemoryTables):
    """Tables that several threads use; `changed` is notified after each commit."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = threading.Condition()

    def commit(self, ranges: Sequence[Range], in_sync: InSyncSet | None) -> None:
        """See Tables."""
        with self.changed:
            super().commit(ranges, in_sync)
            self.changed.notify_all()


class MemoryNode:
    """Answers clients as a listed logging node does. Nodes that share their tables have the same messages.

    A subclass breaks a promise: it overrides `append`, `append_all`, `commit`, `read` or `tail`.

    Args:
        address: host:port of this node.
        tables: what it has; by default nothing.
        tail_s: seconds for which a Tail waits for something new.
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
        """Let each Tail return at once from now on."""
        with self.tables.changed:
            self._stopped = True
            self.tables.changed.notify_all()

    async def handle(self, request: Request) -> Reply:
        """Answer one request; raises InvalidMessageError for one that is not a client's."""
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
        """Store messages; one with an idempotency key under the id with which the key came first."""
        entries, stored_as = request.entries, ""
        if request.key:
            (entry,) = entries
            claim = await self.journal.find_key(request.key)
            if claim and claim.digest != digest(entry.msg):
                return Failure(code=Code.CONFLICT, reason="this idempotency key came with another text before")
            stored_as = claim.message_id if claim else entry.id
            entries = (Entry(stored_as, entry.msg),)
        upto = await self.store(entries, request.key)
        return messages.Appended(node=self.address, stored_as=stored_as, origin=self.incarnation, sequence=upto)

    async def store(self, entries: Sequence[Entry], key: str | None = None) -> int:
        """Commit messages as records of this node; the sequence of the last one."""
        with self.tables.changed:  # so that no other thread commits a higher number before
            after, self._sequence = self._sequence, self._sequence + len(entries)
            records = tuple(Record(number, *entry, key) for number, entry in enumerate(entries, after + 1))
            await self.commit(Range(self.incarnation, after, after + len(entries), records))
        return after + len(entries)

    async def commit(self, found: Range) -> None:
        """Store records wherever they must be before they are acknowledged."""
        await self.journal.commit([found], None)

    async def read(self, request: Read) -> Reply:
        """A page; BEHIND when the session has seen more than is here."""
        vector = dict(self.tables.vector)
        if any(vector.get(origin, 0) < upto for origin, upto in request.session):
            return Failure(code=Code.BEHIND, reason=f"{self.address} has less than this session has seen")
        entries, following = await read_page(self.journal, request)
        seen = tuple(VectorEntry(*entry) for entry in vector.items())
        return messages.Page(entries=tuple(entries), next=following, node=self.address, vector=seen)

    async def tail(self, request: Tail) -> Reply:
        """What came after a number; waits until there is something."""
        name, after = self.journal.name, request.after
        if request.journal == name:
            await asyncio.to_thread(self._wait, after)
        else:
            after = self.journal.last_arrival()
        last = max(after, self.journal.last_arrival())
        reached = min(last, after + PAGE_MESSAGES)
        found = await self.journal.arrivals(after, reached)
        entries, nodes = tuple(one.entry for one in found), tuple(one.node for one in found)
        own, more = self.address, reached < last
        return messages.Tailed(journal=name, entries=entries, next=reached, more=more, node=own, nodes=nodes)

    def _wait(self, after: int) -> None:
        with self.tables.changed:
            self.tables.changed.wait_for(lambda: self._stopped or self.journal.last_arrival() > after, self._tail_s)


def incarnation_of(address: str) -> int:
    """The incarnation of the node in memory at an address."""
    return 2 * int.from_bytes(address.encode()[-7:]) + 1


async def listed_by(directory: Directory, addresses: Sequence[str]) -> None:
    """Let a registry that has just started list nodes in memory, until their leases lapse by its clock."""
    members = tuple(Member(address, incarnation_of(address), since=1, listed=True) for address in sorted(addresses))
    for address in addresses:
        await renew(directory, address, InSyncSet(1, members))


async def renew(directory: Directory, address: str, in_sync: InSyncSet, *, registry: int = 0) -> Renewed:
    """Renew the lease of a node in memory that serves clients; the answer of the registry."""
    own = incarnation_of(address)
    reply = await directory.handle(Renew(node=address, incarnation=own, registry=registry, in_sync=in_sync, ready=True))
    assert isinstance(reply, Renewed)
    return reply if reply.registry == registry else await renew(directory, address, in_sync, registry=reply.registry)
