"""Messages in an SQLite file: the journal of a logging node, and the whole store of the embedded engine.

One file may be shared by all logging nodes of a machine (embedded engine): each has its own connections, SQLite orders
the writers. Each message has a sequence number, the order in which this file got it, by which peers fetch what is new.
"""

import asyncio
import contextvars
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import structlog

from common import ids
from common.errors import FatalError, StoreError
from common.replication import Fetched, Hour, Record, Scope
from common.wire import Entry
from nodes import queries
from nodes.database import Database, frames_in_log, in_transaction
from nodes.lately import Lately
from nodes.observers import NOBODY, Observers
from nodes.store import ABOVE_ALL, KEY_S, Claim, Figures
from nodes.tables import (
    ACCEPTED,
    CLAIM,
    EXPIRE,
    FORGET_KEYS,
    FROM_MAP,
    LAST,
    READ_DOWN,
    READ_UP,
    REMEMBER_KEY,
    TABLES,
    UnusableError,
    checked,
    free_pages,
    identity,
    insertion,
)

log = structlog.get_logger()

BATCH_MESSAGES = 1_000  # most messages in one commit: keeps a commit below 10 ms

# Errors after which nothing that this file says can be relied on. A full disk is none: nothing was written then.
_FINAL = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY)

T = TypeVar("T")


class Cursor(NamedTuple):
    """How far the journal of a peer has been fetched.

    Attributes:
        seq: the sequence number, in the peer's journal, up to which all is here.
        whole: what the peer itself had from others is here, too, as it was when the peer was first met.
    """

    seq: int
    whole: bool


class Journal:
    """An SQLite file of messages; a Store. Appends that come while a commit runs share the next commit.

    Args:
        path: the file; it and its folder are made when they are missing.
        cluster_name: of the cluster whose messages these are; a file of another one is refused.
        observers: told how long commits took.

    Attributes:
        name: the uuid of this file.
        broken: set when the disk failed. A commit that failed is never tried again: what the operating system then
            says about the file is not to be believed. `why` is the reason.

    Raises:
        FatalError: the file cannot be opened, is not a journal, or one of another cluster or format.
    """

    def __init__(self, path: Path, cluster_name: str, *, observers: Observers = NOBODY) -> None:
        self._path = path
        self._observers = observers
        self._synced_ms = 0
        self._count = Lately(self._count_messages, 0)
        self._waiting: list[tuple[Record, asyncio.Future[None]]] = []
        self._commits: asyncio.Task[None] | None = None
        self.broken = asyncio.Event()
        self.why = ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            frames = frames_in_log(path)
            self._writer = Database(path, TABLES)
            used = self._writer.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
            if frames > used >= 0:
                log.warning("the end of the journal was not completely written, and is cut", pages=frames - used)
            self._reader = Database(path, TABLES)
            self._auditor = Database(path, TABLES)  # for what takes long
            self.name = identity(self._writer.connection, path, cluster_name)
        except (OSError, sqlite3.Error) as error:
            raise FatalError(f"cannot use {path} as a journal: {error}") from error

    async def append(self, message_id: str, text: str, key: str | None = None) -> None:
        """See Store; stored means: committed and flushed to the disk."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((Record(message_id, text, key), done))
        if self._commits is None:
            self._commits = asyncio.create_task(self._commit_all(), context=contextvars.Context())  # for many requests
        await done

    async def append_all(self, entries: Sequence[Entry]) -> None:
        """See Store."""
        await self._write(insertion([Record(*entry, None) for entry in entries], ACCEPTED))

    async def keep(self, entries: Sequence[Entry], origin: str = FROM_MAP) -> None:
        """Store what another node accepted; peers that reach that node do not fetch it from here."""
        await self._write(insertion([Record(*entry, None) for entry in entries], origin))

    async def claim(self, key: str, message_id: str, text_digest: str) -> Claim:
        """See Store."""

        def insert(connection: sqlite3.Connection) -> Claim:
            now_s = time.time()
            connection.execute(FORGET_KEYS, (now_s - KEY_S,))
            connection.execute(REMEMBER_KEY, (key, message_id, text_digest, now_s))
            return Claim(*connection.execute(CLAIM, (key, 0)).fetchone())

        return await self._write(insert)

    async def claimed(self, key: str) -> Claim | None:
        """What belongs to an idempotency key whose message is in this journal, or None."""
        oldest_s = time.time() - KEY_S
        row = await self._read(lambda connection: connection.execute(CLAIM, (key, oldest_s)).fetchone())
        return Claim(*row) if row else None

    async def read(self, after: str, limit: int, *, before: str = "", newest_first: bool = False) -> list[Entry]:
        """See Store."""
        query = READ_DOWN if newest_first else READ_UP
        bounds = (after, before or ABOVE_ALL, limit)
        return await self._read(lambda connection: [checked(*row) for row in connection.execute(query, bounds)])

    async def ids(self, after: str, limit: int) -> list[str]:
        """See Half."""
        query = "SELECT id FROM messages WHERE id > ? ORDER BY id LIMIT ?"
        return await self._read(lambda connection: [row[0] for row in connection.execute(query, (after, limit))])

    async def between(self, after: str, until: str) -> list[Entry]:
        """What has an id in (after, until], about PAGE_BYTES of it."""
        return await self._guarded(self._auditor, lambda connection: queries.between(connection, after, until))

    async def hours(self, from_hour: int, until: str) -> dict[int, Hour]:
        """What is there of each hour, up to the id `until`; 0.5 s for 1,000,000 messages.

        Messages are counted by 65.5 s of their ids (STEP_MS).
        """
        return await self._guarded(self._auditor, lambda connection: queries.hours(connection, from_hour, until))

    async def check(self) -> None:
        """Read everything once; raises FatalError when a message is not what was written. 1.2 s for 1,000,000."""

        def scan(connection: sqlite3.Connection) -> None:
            for row in connection.execute("SELECT id, msg, crc FROM messages"):
                checked(*row)

        try:
            await self._guarded(self._auditor, scan)
        except StoreError as error:
            raise FatalError(f"{error}; `scripts.cluster wipe` empties it, then the peers fill it again") from error

    async def expire(self, until: str) -> int:
        """See Store; what becomes free goes back to the file system."""
        removed = 0
        while True:
            count = await self._write(lambda connection: connection.execute(EXPIRE, (until, BATCH_MESSAGES)).rowcount)
            removed += count
            if count < BATCH_MESSAGES:
                break
        while removed and await self._write(free_pages):
            pass  # some at a time, so that messages get in between
        return removed

    async def newest(self, skip: int) -> str:
        """The id of the newest message but `skip`; "" when there are not so many."""
        query = "SELECT id FROM messages ORDER BY id DESC LIMIT 1 OFFSET ?"
        row = await self._read(lambda connection: connection.execute(query, (skip,)).fetchone())
        return str(row[0]) if row else ""

    def view(self) -> tuple[str, ...]:
        """See Store."""
        return ()

    async def figures(self) -> Figures:
        """See Store. The messages are counted beside: that takes 50 ms for 1,000,000."""
        files = (self._path, Path(f"{self._path}-wal"))
        size = sum(file.stat().st_size for file in files if file.exists())
        return Figures("embedded", messages=await self._count.value(), journal_bytes=size, synced_ms=self._synced_ms)

    async def since(self, seq: int, scope: Scope = Scope.ACCEPTED, *, node: str = "") -> Fetched:
        """What this journal got after `seq` and is in the scope of a request of `node`, about PAGE_BYTES at a time."""
        return await self._read(lambda connection: queries.since(connection, self.name, seq, scope, node))

    async def tail(self, journal: str, after: int) -> Fetched:
        """See Log."""
        if journal == self.name:
            return await self.since(after, Scope.EVERYTHING)
        (end,) = await self._read(lambda connection: connection.execute(LAST).fetchone())
        return Fetched(journal=self.name, records=(), next=end, more=False)

    async def cursor(self, journal: str) -> Cursor:
        """How far the journal of that name has been fetched."""
        query = "SELECT seq, whole FROM cursors WHERE journal = ?"
        row = await self._read(lambda connection: connection.execute(query, (journal,)).fetchone())
        return Cursor(row[0], bool(row[1])) if row else Cursor(0, whole=False)

    async def last_journal_of(self, address: str) -> str:
        """The name of the journal that was fetched last from a node (host:port); "" for none."""
        query = "SELECT journal FROM cursors WHERE address = ? ORDER BY rowid DESC LIMIT 1"
        row = await self._read(lambda connection: connection.execute(query, (address,)).fetchone())
        return str(row[0]) if row else ""

    async def adopt(self, journal: str, records: Sequence[Record], cursor: Cursor, *, origin: str) -> None:
        """Store what was fetched from the journal of that name, of the node `origin`, and how far that is."""

        def insert(connection: sqlite3.Connection) -> None:
            insertion(records, origin)(connection)
            connection.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?, ?, ?)", (journal, *cursor, origin))

        await self._write(insert)

    def close(self) -> None:
        """Finish what runs and close the file."""
        self._writer.close()
        self._reader.close()
        self._auditor.close()

    async def _count_messages(self) -> int:
        query = "SELECT count(*) FROM messages"
        return int(await self._guarded(self._auditor, lambda connection: connection.execute(query).fetchone()[0]))

    async def _commit_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:BATCH_MESSAGES], self._waiting[BATCH_MESSAGES:]
                try:
                    await self._write(insertion([record for record, _ in batch], ACCEPTED))
                except StoreError as error:
                    _settle(batch, error)
                else:
                    _settle(batch, None)
        finally:
            self._commits = None

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self.broken.is_set():
            raise StoreError(f"the journal is broken: {self.why}")

        def write(connection: sqlite3.Connection) -> T:
            if not self._writer.in_place():
                raise UnusableError("the file is gone, or is another one")
            began_s = time.perf_counter()
            done = in_transaction(work)(connection)
            self._observers.committed(time.perf_counter() - began_s)
            self._synced_ms = ids.now_ms()
            return done

        return await self._guarded(self._writer, write)

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._guarded(self._reader, work)

    async def _guarded(self, worker: Database, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await worker.run(work)
        except UnusableError as error:
            self._break(str(error))
            raise StoreError(f"the journal is broken: {self.why}") from error
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _FINAL:  # the low byte is the kind, the rest details
                self._break(str(error))
            raise StoreError(f"the journal failed: {error}") from error

    def _break(self, why: str) -> None:
        self.why = self.why or f"{self._path}: {why}"
        self.broken.set()


def _settle(batch: list[tuple[Record, "asyncio.Future[None]"]], error: StoreError | None) -> None:
    for _, done in batch:
        if done.done():  # whoever waited has given up
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)
