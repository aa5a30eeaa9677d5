"""The journal of a logging node: an SQLite file that is used by one process at a time."""

import asyncio
import contextlib
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from common import ids
from common.errors import FatalError, StoreError
from common.protocol.content import Entry
from common.protocol.replication import HourDigest, InSyncSet
from common.protocol.search import Search
from nodes.replication.core.effects import Range
from nodes.storage import reading, tables
from nodes.storage.database import (
    Database,
    UnusableError,
    WriteAheadLog,
    exclusive,
    frames_in_log,
    free_pages,
    in_transaction,
    is_final,
)
from nodes.storage.opening import check_messages, new_incarnation, open_tables
from nodes.storage.protocol import ABOVE_ALL, SCAN_S, Arrival, Claim, Matches, Size
from nodes.storage.tables import Change, Contents

log = structlog.get_logger()

SHORT_S = 0.002  # duration of the last transaction up to which the event loop's thread commits: it saves a hand-over

T = TypeVar("T")


def draw_incarnation() -> int:
    """A random incarnation: 63 bits, the lowest one set so that it is never 0."""
    return secrets.randbits(63) | 1


@contextlib.asynccontextmanager
async def open_journal(
    path: Path, cluster_name: str, address: str, *, on_commit: Callable[[float], object] = lambda _seconds: None
) -> AsyncIterator["SqliteJournal"]:
    """Open the journal in a file, and close it at the end; raises FatalError when it cannot be used."""
    journal = await asyncio.to_thread(SqliteJournal, path, cluster_name, address, on_commit=on_commit)
    try:
        yield journal
    finally:
        await asyncio.to_thread(journal.close)


class SqliteJournal:
    """A Journal in an SQLite file.

    A transaction that fails for lack of room, or because of a lock, is rolled back and may be repeated. After any other
    error of the disk nothing more is read or written, because the content of the file cannot be trusted.

    Args:
        path: the file; it and its folder are created if they are missing.
        cluster_name: the cluster that the messages belong to.
        address: host:port of this node.
        on_commit: called in the writing thread with the duration of each transaction, including its flush, in seconds.
        draw: draws incarnations.
        clock: returns the time in seconds since 1970.
        short_s: the longest transaction, in seconds, after which `commit_now` commits in the thread of the event loop.

    Raises:
        FatalError: the file cannot be opened, is not a journal, belongs to another cluster or has another format, or
            another logging node uses it.
    """

    def __init__(
        self,
        path: Path,
        cluster_name: str,
        address: str,
        *,
        on_commit: Callable[[float], object] = lambda _seconds: None,
        draw: Callable[[], int] = draw_incarnation,
        clock: Callable[[], float] = time.time,
        short_s: float = SHORT_S,
    ) -> None:
        self._path = path
        self._address = address
        self._on_commit = on_commit
        self._draw = draw
        self._clock, self._short_s = clock, short_s
        self._flushed_ms = 0
        self._commit_s = float("inf")  # duration of the last transaction; infinite if it failed
        self._checkpoint: asyncio.Future[int] | None = None
        self.broken = asyncio.Event()
        self.why = ""
        try:
            with contextlib.ExitStack() as stack:
                self._open(stack, cluster_name)
                self._files = stack.pop_all()
        except (OSError, sqlite3.Error) as error:
            raise FatalError(f"cannot use {path} as a journal: {error}") from error

    def _open(self, files: contextlib.ExitStack, cluster_name: str) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path = self._path.resolve()  # SQLite keeps its log beside the target of a symbolic link
        files.enter_context(exclusive(self._path))
        frames = frames_in_log(self._path)
        self._log = files.enter_context(contextlib.closing(WriteAheadLog(self._path)))
        self._writer = files.enter_context(contextlib.closing(Database(self._path)))
        writer = self._writer.connection
        if frames > (used := self._log.checkpoint(writer)) >= 0:
            log.warning("the end of the journal was not completely written, and is cut", pages=frames - used)
        found = in_transaction(
            writer, lambda _: open_tables(writer, self._path, cluster_name, self._address, self._draw)
        )
        self.name, self._contents, self.opened = found
        self._log.checkpoint(writer)
        self._reader = files.enter_context(contextlib.closing(Database(self._path)))
        self._scanner = files.enter_context(contextlib.closing(Database(self._path)))  # for long reads

    # Writes

    async def commit(self, ranges: Sequence[Range], in_sync: InSyncSet | None) -> None:
        """See Journal."""
        now_s = self._clock()
        await self._change(lambda connection, held: tables.store(connection, held, ranges, in_sync, now_s))

    def commit_now(self, ranges: Sequence[Range], in_sync: InSyncSet | None) -> bool:
        """See Journal; short commits only, and only while the disk is fast."""
        if self._commit_s > self._short_s or self._log.error or not tables.is_short(ranges):
            return False
        self._require_usable()
        try:
            done = self._writer.run_here(
                lambda connection: self._change_in(
                    connection, lambda _, held: tables.store(connection, held, ranges, in_sync, self._clock())
                )
            )
        except (UnusableError, sqlite3.Error) as error:
            raise self._failure(error) from error
        if done:
            self._checkpoint_if_due()
        return done

    async def new_incarnation(self) -> int:
        """See Journal."""
        return await self._write(lambda connection: new_incarnation(connection, self._address, self._draw))

    async def repair(self, entries: Sequence[Entry]) -> int:
        """See Journal."""
        return await self._change(lambda connection, held: tables.repair(connection, held, entries))

    async def expire(self, until: str) -> int:
        """See Journal; the freed space is returned to the file system."""
        removed = 0
        while count := await self._change(lambda connection, _: tables.expire(connection, until)):
            removed += count
        while removed and await self._write(free_pages):
            pass  # a few pages at a time, so that commits get in between
        return removed

    # Reads

    async def load(self, origin: int, after: int, upto: int) -> Range:
        """See Journal."""
        return await self._read(lambda connection: tables.load(connection, origin, after, upto))

    async def find_key(self, key: str) -> Claim | None:
        """See Journal."""
        return await self._read(partial(tables.find_key, key=key, now_s=self._clock()))

    async def read(self, after: str, limit: int, *, before: str = "", newest_first: bool = False) -> list[Entry]:
        """See Journal."""
        bounds = (after, before or ABOVE_ALL, limit)
        return await self._read(lambda connection: reading.read(connection, *bounds, newest_first=newest_first))

    async def search(
        self, wanted: Search, after: str, limit: int, *, before: str = "", newest_first: bool = False
    ) -> Matches:
        """See Journal."""
        bounds = (after, before or ABOVE_ALL, limit)
        ends_s = time.monotonic() + SCAN_S  # the time for which it waits for the thread counts, too
        return await self._scan(
            lambda connection: reading.search(connection, wanted, *bounds, ends_s=ends_s, newest_first=newest_first)
        )

    async def between(self, after: str, until: str) -> list[Entry]:
        """See Journal."""
        return await self._scan(lambda connection: reading.between(connection, after, until))

    async def arrivals(self, after: int, upto: int) -> list[Arrival]:
        """See Journal."""
        return await self._read(lambda connection: reading.arrivals(connection, after, upto))

    def last_arrival(self) -> int:
        """See Journal."""
        return self._contents.last_arrival

    def floor(self) -> str:
        """See Journal."""
        return self._contents.floor

    async def hours(self, from_hour: int, until: str) -> dict[int, HourDigest]:
        """See Journal."""
        return await self._scan(lambda connection: tables.hours(connection, from_hour, until, self._contents.floor))

    async def size(self) -> Size:
        """See Journal."""
        files = (self._path, Path(f"{self._path}-wal"))
        size_bytes = sum(file.stat().st_size for file in files if file.exists())
        messages = await self._read(tables.message_count)
        return Size(messages, size_bytes, self._flushed_ms)

    async def check(self) -> None:
        """Read every message once (1.6 s for 1,000,000 messages).

        Raises:
            FatalError: a message is damaged or missing, or the file cannot be read.
        """
        try:
            await self._scan(check_messages)
        except StoreError as error:
            raise FatalError(f"{error}; remove it with `scripts.cluster wipe`, then the peers fill it again") from error

    def close(self) -> None:
        """Finish the work that was started, and close the file."""
        self._files.close()

    # Internals

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._run(self._reader, work)

    async def _scan(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._run(self._scanner, work)

    async def _change(self, work: Callable[[sqlite3.Connection, Contents], Change]) -> int:
        """Write, then update the cache; the number of messages that were inserted or removed."""
        return await self._with_checkpoint(lambda connection: self._change_in(connection, work))

    def _change_in(self, connection: sqlite3.Connection, work: Callable[[sqlite3.Connection, Contents], Change]) -> int:
        change = self._transact(connection, lambda _: work(connection, self._contents))
        self._contents.apply(change)
        return change.messages

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._with_checkpoint(lambda connection: self._transact(connection, work))

    async def _with_checkpoint(self, write: Callable[[sqlite3.Connection], T]) -> T:
        result = await self._run(self._writer, write)
        self._checkpoint_if_due()
        return result

    def _checkpoint_if_due(self) -> None:
        """Start a checkpoint in the writer's thread if one is due; do not wait for it."""
        if self._log.is_due() and (self._checkpoint is None or self._checkpoint.done()):
            self._checkpoint = self._writer.start(self._log.checkpoint)
            self._checkpoint.add_done_callback(self._checkpointed)

    def _transact(self, connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a transaction, unless the last checkpoint failed and fails again."""
        if not self._writer.in_place():
            raise UnusableError("the file is gone or was replaced")
        self._log.require(connection)
        began_s, self._commit_s = time.perf_counter(), float("inf")
        result = in_transaction(connection, work)
        self._commit_s = time.perf_counter() - began_s
        self._on_commit(self._commit_s)
        self._flushed_ms = ids.now_ms()
        return result

    def _checkpointed(self, checkpoint: "asyncio.Future[int]") -> None:
        """Log a failed checkpoint. Earlier commits are safe; the next write repeats it, and fails if it fails again."""
        if not checkpoint.cancelled() and (error := checkpoint.exception()):
            log.warning("the journal's log could not be copied into its file", reason=str(error))
            self._failure(error)

    async def _run(self, database: Database, work: Callable[[sqlite3.Connection], T]) -> T:
        self._require_usable()
        try:
            return await database.start(work)
        except (UnusableError, sqlite3.Error) as error:
            raise self._failure(error) from error

    def _require_usable(self) -> None:
        if self.broken.is_set():
            raise StoreError(f"the journal is broken: {self.why}")

    def _failure(self, error: BaseException) -> StoreError:
        """Convert an error to a StoreError, and mark the journal as broken if the error is final."""
        if not is_final(error):
            return StoreError(f"the journal failed: {error}")
        self.why = self.why or f"{self._path}: {error}"
        self.broken.set()
        return StoreError(f"the journal is broken: {self.why}")
