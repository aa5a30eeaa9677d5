"""A journal in memory: the twin of the SQLite journal for tests and the simulator."""

import asyncio
import uuid
from collections.abc import Callable, Sequence

from common.protocol.content import Entry, content_bytes
from common.protocol.messages import PAGE_BYTES, PAGE_MESSAGES
from common.protocol.replication import HourDigest, InSyncSet, Record
from common.protocol.search import Search, matcher
from nodes.replication.core.effects import Opened, Range
from nodes.storage.protocol import (
    ABOVE_ALL,
    LOAD_BYTES,
    Arrival,
    Claim,
    Matches,
    Size,
    checksum,
    decide,
    digest,
    hour_of,
)


class MemoryTables:
    """The content of a journal, accessible without waiting; everything in it counts as being on the disk."""

    def __init__(self) -> None:
        self.records: dict[int, dict[int, Record]] = {}
        self.entries: dict[str, Entry] = {}
        self.origins: dict[str, int] = {}  # the incarnation that accepted each message
        self.keys: dict[str, Claim] = {}
        self.vector: dict[int, int] = {}
        self.in_sync: InSyncSet | None = None
        self.order: list[str] = []  # the id of every message, in order of arrival
        self.nodes: dict[int, str] = {}  # addresses by incarnation
        self.superseded: set[str] = set()  # ids of messages removed because another message owns their key
        self.floor = ""  # the highest id that retention removed

    def commit(self, ranges: Sequence[Range], in_sync: InSyncSet | None) -> None:
        """See Journal."""
        for part in ranges:
            stored_upto = self.vector.get(part.origin, 0)
            for record in part.records:
                if record.sequence > stored_upto:
                    self._add(part.origin, record)
            self.vector[part.origin] = max(part.upto, stored_upto)
        if in_sync:
            self.in_sync = in_sync
            self.nodes |= {one.incarnation: one.address for one in in_sync.members}

    def _add(self, origin: int, record: Record) -> None:
        if record.key:
            self._claim(record.key, Claim(record.id, digest(record), record.term))
        if self.insert(Entry(record.id, record.msg, record.fields), origin) or record.id in self.entries:
            stored = self.entries[record.id]
            self.records.setdefault(origin, {})[record.sequence] = record._replace(msg=stored.msg, fields=stored.fields)

    def _claim(self, key: str, claim: Claim) -> None:
        """Store a claim of a key, and remove the message that yields to another one, if any."""
        self.keys[key], loser = decide(self.keys.get(key), claim)
        if loser:
            self.superseded.discard(self.keys[key].message_id)
            self.superseded.add(loser)
            self.entries.pop(loser, None)
            self._drop_records({loser})

    def _drop_records(self, ids: set[str]) -> None:
        for origin, records in self.records.items():
            if any(one.id in ids for one in records.values()):
                self.records[origin] = {number: one for number, one in records.items() if one.id not in ids}

    def insert(self, entry: Entry, origin: int = 0) -> bool:
        """Add a message unless it is present or was removed; True if it was added."""
        if entry.id in self.entries or entry.id <= self.floor or entry.id in self.superseded:
            return False
        self.entries[entry.id] = Entry(entry.id, entry.msg, entry.fields)
        self.origins[entry.id] = origin
        self.order.append(entry.id)
        return True

    @property
    def texts(self) -> list[str]:
        """The texts of all messages."""
        return [one.msg for one in self.entries.values()]

    def entry(self, message_id: str) -> Entry:
        """A message with the node that accepted it."""
        return self.entries[message_id]._replace(node=self.nodes.get(self.origins[message_id], ""))

    def load(self, origin: int, after: int, upto: int) -> Range:
        """See Journal."""
        found: list[Record] = []
        used_bytes = 0
        records = self.records.get(origin, {})
        for record in (records[number] for number in range(after + 1, upto + 1) if number in records):
            used_bytes += content_bytes(record)
            if found and (used_bytes > LOAD_BYTES or len(found) == PAGE_MESSAGES):
                return Range(origin, after, found[-1].sequence, tuple(found))
            found.append(record)
        return Range(origin, after, upto, tuple(found))

    def ids(self) -> list[str]:
        """All ids in ascending order."""
        return sorted(self.entries)

    def expire(self, until: str) -> int:
        """See Journal."""
        old = {one for one in self.entries if one <= until}
        for one in old:
            del self.entries[one]
        self._drop_records(old)
        self.floor = max([self.floor, *old])
        return len(old)


class MemoryJournal:
    """A Journal in memory.

    Args:
        tables: the initial content, which commits change.
        draw: draws incarnations.
    """

    def __init__(self, tables: MemoryTables, draw: Callable[[], int]) -> None:
        self.tables = tables
        self._draw = draw
        self.name = str(uuid.uuid4())
        self.broken = asyncio.Event()
        self.why = ""
        self.opened = Opened(draw(), dict(tables.vector), tables.in_sync)

    async def commit(self, ranges: Sequence[Range], in_sync: InSyncSet | None) -> None:
        """See Journal."""
        self.tables.commit(ranges, in_sync)

    def commit_now(self, _ranges: Sequence[Range], _in_sync: InSyncSet | None) -> bool:
        """See Journal; always False, so that tests can hold up every commit."""
        return False

    async def new_incarnation(self) -> int:
        """See Journal."""
        return self._draw()

    async def load(self, origin: int, after: int, upto: int) -> Range:
        """See Journal."""
        return self.tables.load(origin, after, upto)

    async def find_key(self, key: str) -> Claim | None:
        """See Journal; keys never expire here."""
        return self.tables.keys.get(key)

    async def read(self, after: str, limit: int, *, before: str = "", newest_first: bool = False) -> list[Entry]:
        """See Journal."""
        ids = self.tables.ids()
        found = [one for one in (reversed(ids) if newest_first else ids) if after < one < (before or ABOVE_ALL)]
        return [self.tables.entry(one) for one in found[:limit]]

    async def search(
        self, wanted: Search, after: str, limit: int, *, before: str = "", newest_first: bool = False
    ) -> Matches:
        """See Journal; not limited in time."""
        everything = await self.read(after, len(self.tables.entries), before=before, newest_first=newest_first)
        found, used_bytes = list[Entry](), 0
        for entry in filter(matcher(wanted).matches, everything):
            found.append(entry)
            used_bytes += content_bytes(entry)
            if len(found) == limit or used_bytes >= PAGE_BYTES:
                return Matches(found, entry.id)
        return Matches(found, None)

    async def between(self, after: str, until: str) -> list[Entry]:
        """See Journal; limited by number only."""
        return [self.tables.entry(one) for one in self.tables.ids() if after < one <= until][:PAGE_MESSAGES]

    async def arrivals(self, after: int, upto: int) -> list[Arrival]:
        """See Journal; limited by number only."""
        tables = self.tables
        return [
            Arrival(number, tables.entry(one))
            for number, one in enumerate(tables.order[after:upto], after + 1)
            if one in tables.entries
        ][:PAGE_MESSAGES]

    def last_arrival(self) -> int:
        """See Journal."""
        return len(self.tables.order)

    def floor(self) -> str:
        """See Journal."""
        return self.tables.floor

    async def hours(self, from_hour: int, until: str) -> dict[int, HourDigest]:
        """See Journal."""
        found: dict[int, HourDigest] = {}
        first = max(from_hour, hour_of(self.tables.floor) + 1 if self.tables.floor else 0)
        for one in self.tables.entries.values():
            if one.id <= until and (hour := hour_of(one.id)) >= first:
                sums = found.get(hour, HourDigest(hour, 0, 0))
                crc = checksum(one.id, one.msg, one.fields)
                found[hour] = HourDigest(hour, sums.messages + 1, sums.digest + crc)
        return found

    async def repair(self, entries: Sequence[Entry]) -> int:
        """See Journal."""
        return sum(map(self.tables.insert, entries))

    async def expire(self, until: str) -> int:
        """See Journal."""
        return self.tables.expire(until)

    async def size(self) -> Size:
        """See Journal."""
        return Size(len(self.tables.entries), 0, 0)
