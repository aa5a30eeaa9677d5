"""Messages in an SQLite file: the embedded engine, for a machine without Java.

One file may be shared by all logging nodes of one machine: each has its own connections, SQLite orders the writers.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from common.errors import FatalError, StoreError
from common.wire import Entry
from nodes.store import KEY_S, Claim

BUSY_S = 0.9  # for a lock that another node's commit holds (about 1 ms each); below the facade's attempt timeout
BATCH_MESSAGES = 1_000  # most messages in one commit: keeps a commit below 10 ms

WAL_TRIES, WAL_PAUSE_S = 40, 0.025  # at most 1 s at the start; it takes some milliseconds

T = TypeVar("T")


class Journal:
    """An SQLite file of messages; a Store. Appends that come while a commit runs share the next commit.

    Args:
        path: the file; it and its folder are made when they are missing.

    Raises:
        FatalError: the file cannot be opened, or is not a journal.
    """

    def __init__(self, path: Path) -> None:
        self._waiting: list[tuple[Entry, asyncio.Future[None]]] = []
        self._commits: asyncio.Task[None] | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = _Worker(path)
            self._reader = _Worker(path)
        except (OSError, sqlite3.Error) as error:
            raise FatalError(f"cannot use {path} as a journal: {error}") from error

    async def append(self, message_id: str, text: str) -> None:
        """See Store; stored means: committed and flushed to the disk."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((Entry(message_id, text), done))
        if self._commits is None:
            self._commits = asyncio.create_task(self._commit_all())
        await done

    async def claim(self, key: str, message_id: str, digest: str) -> Claim:
        """See Store."""

        def insert(connection: sqlite3.Connection) -> Claim:
            now_s = time.time()
            connection.execute("DELETE FROM keys WHERE made_s < ?", (now_s - KEY_S,))
            connection.execute("INSERT OR IGNORE INTO keys VALUES (?, ?, ?, ?)", (key, message_id, digest, now_s))
            return Claim(*connection.execute("SELECT id, digest FROM keys WHERE key = ?", (key,)).fetchone())

        return await self._writer.run(_in_transaction(insert))

    async def read(self, after: str, limit: int) -> list[Entry]:
        """See Store."""
        query = "SELECT id, msg FROM messages WHERE id > ? ORDER BY id LIMIT ?"
        rows = await self._reader.run(lambda connection: connection.execute(query, (after, limit)).fetchall())
        return [Entry(*row) for row in rows]

    def view(self) -> tuple[str, ...]:
        """See Store."""
        return ()

    def close(self) -> None:
        """Finish what runs and close the file."""
        self._writer.close()
        self._reader.close()

    async def _commit_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:BATCH_MESSAGES], self._waiting[BATCH_MESSAGES:]
                try:
                    await self._writer.run(_in_transaction(_insertion([entry for entry, _ in batch])))
                except StoreError as error:
                    _settle(batch, error)
                else:
                    _settle(batch, None)
        finally:
            self._commits = None


class _Worker:
    """A connection and the one thread that uses it."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        _switch_to_wal(self._connection)
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("CREATE TABLE IF NOT EXISTS messages (id TEXT PRIMARY KEY, msg TEXT) WITHOUT ROWID")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS keys (key TEXT PRIMARY KEY, id TEXT, digest TEXT, made_s REAL) WITHOUT ROWID"
        )
        self._connection.execute("CREATE INDEX IF NOT EXISTS keys_by_age ON keys (made_s)")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns; raises StoreError when SQLite fails."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, work, self._connection)
        except sqlite3.Error as error:
            raise StoreError(f"the journal failed: {error}") from error

    def close(self) -> None:
        self._thread.shutdown()
        self._connection.close()


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Several nodes may open a new file at once, and for this statement SQLite does not wait for a lock by itself."""
    for _ in range(WAL_TRIES):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            time.sleep(WAL_PAUSE_S)
        else:
            return
    connection.execute("PRAGMA journal_mode = WAL")


def _insertion(entries: list[Entry]) -> Callable[[sqlite3.Connection], None]:
    def insert(connection: sqlite3.Connection) -> None:
        connection.executemany("INSERT OR IGNORE INTO messages VALUES (?, ?)", entries)

    return insert


def _in_transaction(work: Callable[[sqlite3.Connection], T]) -> Callable[[sqlite3.Connection], T]:
    """The same work, whole and flushed to the disk, or not done at all."""

    def run(connection: sqlite3.Connection) -> T:
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except sqlite3.Error:
            connection.rollback()
            raise
        return result

    return run


def _settle(batch: list[tuple[Entry, "asyncio.Future[None]"]], error: StoreError | None) -> None:
    for _, done in batch:
        if done.done():  # whoever waited has given up
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)
