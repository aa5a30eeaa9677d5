"""An SQLite file on a disk: its lock, connections with a thread each, transactions, and its write-ahead log."""

import asyncio
import contextlib
import fcntl
import os
import sqlite3
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from common.errors import FatalError, StoreError

BUSY_MS = 900  # for a lock that another program holds, such as a backup; below the facade's attempt timeout
FREED_PAGES = 250  # 1 MB, given back in one transaction
LOG_PAGES = 1_000  # then a checkpoint is due; SQLite's own default
LOG_BYTES = 16_777_216  # then the log is made empty: it is read as a whole when the journal is opened

# Errors after which nothing that the file says can be relied on. After a failed flush, for one, the operating system
# may claim that pages are on the disk which are not, so nothing is tried again.
_FINAL = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY)
# Writes that found no room: quota (EDQUOT), limit of a file's size (EFBIG), and no page for the index of the log. A
# full disk (ENOSPC) is SQLITE_FULL. Nothing was committed, and the next write may succeed.
_NO_ROOM = (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)

_KIND = 0xFF  # the low byte of an error is its kind, the rest are details

# See "WAL-mode File Format" in SQLite's documentation.
_LOG_HEADER = struct.Struct(">8xI4x8s8x")  # page size in bytes, salts
_FRAME = struct.Struct(">8x8s8x")  # the header of a frame: salts; a page follows
_INDEX_FRAMES = 16  # where the index of the log has the number of frames: 4 bytes in the byte order of the machine

T = TypeVar("T")


class UnusableError(StoreError):
    """Raised when the file is not what this process wrote: it was removed or replaced, or a message is damaged."""


class Database:
    """A connection to an SQLite file in WAL mode that flushes each commit to the disk, and the thread that uses it.

    Args:
        path: the file; it is made when it is missing.

    Raises:
        sqlite3.Error: the file cannot be opened, or is no database.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            set_busy_ms(self.connection, BUSY_MS)
            self.connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # a new file can give back what is deleted
            self.connection.execute("PRAGMA journal_mode = WAL").fetchone()
            self.connection.execute("PRAGMA synchronous = FULL")
            self.connection.execute("PRAGMA wal_autocheckpoint = 0")  # SQLite's own checkpoints hide their errors
        except sqlite3.Error:
            self.connection.close()
            raise
        self._file = path.stat()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._in_use = threading.Lock()
        self._waits = True  # statements wait for BUSY_MS

    def start(self, work: Callable[[sqlite3.Connection], T]) -> "asyncio.Future[T]":
        """Run `work` in the thread after whatever was started before, also when nobody awaits the future."""
        return asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._in_use:
            self._set_waits(waits=True)
            return work(self.connection)

    def _set_waits(self, *, waits: bool) -> None:
        """Set whether statements wait for the locks of other programs."""
        if waits != self._waits:
            self._waits = waits
            set_busy_ms(self.connection, BUSY_MS if waits else 0)

    def run_here(self, work: Callable[[sqlite3.Connection], object]) -> bool:
        """Run `work` in the calling thread, ahead of work that is queued for the journal's thread.

        Returns: False, and nothing is done, while that thread is busy or another program holds a lock, and after
        `close`.
        """
        if not self._in_use.acquire(blocking=False):
            return False
        try:
            self._set_waits(waits=False)
            work(self.connection)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & _KIND != sqlite3.SQLITE_BUSY:
                raise
            return False
        finally:
            self._in_use.release()
        return True

    def in_place(self) -> bool:
        """True if its path still leads to the file, in 2 us. What goes into a removed file is on no disk."""
        try:
            return os.path.samestat(self._path.stat(), self._file)
        except OSError:
            return False

    def close(self) -> None:
        """Finish what was started and close the file."""
        self._thread.shutdown()
        self._in_use.acquire()  # never released: from now on `run_here` does nothing
        self.connection.close()


class WriteAheadLog:
    """The log into which commits are written, and the checkpoints that copy it into the file.

    Args:
        path: the file, which a connection has in WAL mode.

    Attributes:
        error: why the last checkpoint failed, or None if it did not.
    """

    def __init__(self, path: Path) -> None:
        self._log = Path(f"{path}-wal")
        self._index_path = f"{path}-shm"
        self._index: int | None = None
        self.error: sqlite3.Error | None = None

    def is_due(self) -> bool:
        """True if the log has over LOG_PAGES pages, in 1 us; after the first checkpoint."""
        try:
            if self._index is None:
                self._index = os.open(self._index_path, os.O_RDONLY)
            return int.from_bytes(os.pread(self._index, 4, _INDEX_FRAMES), sys.byteorder) > LOG_PAGES
        except OSError:  # no descriptor is left, or the file is gone: the next write looks again
            return False

    def checkpoint(self, connection: sqlite3.Connection) -> int:
        """Copy what no reader needs in the log any more; empty the log if it is over LOG_BYTES and all was copied.

        Returns: how many pages the log had.

        Raises:
            sqlite3.Error: it failed, and `error` has it. It does not when it has to leave something to a later one.
        """
        try:
            _, pages, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if pages == copied and self._log.stat().st_size > LOG_BYTES:
                set_busy_ms(connection, 0)  # a reader in the log is no reason to wait: the next checkpoint is soon
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            self.error = error
            raise
        finally:
            set_busy_ms(connection, BUSY_MS)
        self.error = None
        return int(pages)

    def require(self, connection: sqlite3.Connection) -> None:
        """Try again what failed, unless the disk is not to be believed any more.

        Raises:
            sqlite3.Error: the last checkpoint failed, and so did this one.
        """
        if self.error and is_final(self.error):
            raise self.error
        if self.error:
            self.checkpoint(connection)

    def close(self) -> None:
        """Close the index; after the connections, because closing it takes away the locks that they hold on it."""
        if self._index is not None:
            os.close(self._index)


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Keep all others out of a file, by a lock on `<path>.lock` that ends with this process at the latest.

    Raises:
        FatalError: somebody else has the lock, in this process or in another one.
    """
    with Path(f"{path}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FatalError(f"cannot use {path} as a journal: another logging node uses it") from error
        yield


def in_transaction(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    """Do the work as a whole, flushed to the disk, or not at all."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite has rolled back already after some errors
            connection.rollback()
        raise
    return result


@contextlib.contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Read everything in the block from one snapshot."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.rollback()


def is_final(error: BaseException) -> bool:
    """True if nothing that the file says can be relied on after this error."""
    code = getattr(error, "sqlite_errorcode", 0)
    kind = code & _KIND
    return isinstance(error, UnusableError) or (kind in _FINAL and code not in _NO_ROOM)


def set_busy_ms(connection: sqlite3.Connection, busy_ms: int) -> None:
    """Set for how long a statement waits for a lock."""
    connection.execute(f"PRAGMA busy_timeout = {busy_ms}").fetchone()


def free_pages(connection: sqlite3.Connection) -> int:
    """Give FREED_PAGES free pages back to the file system; how many are left."""
    for _ in range(FREED_PAGES):
        connection.execute("PRAGMA incremental_vacuum(1)").fetchall()  # one step of it frees one page in any case
    return int(connection.execute("PRAGMA freelist_count").fetchone()[0])


def frames_in_log(path: Path) -> int:
    """Pages in the write-ahead log of a file, also those that SQLite will not use because their write was cut off.

    Frames of an earlier round of the log carry other salts, and do not count.
    """
    log = Path(f"{path}-wal")
    data = log.read_bytes() if log.is_file() else b""
    if len(data) < _LOG_HEADER.size:
        return 0
    page_bytes, salts = _LOG_HEADER.unpack_from(data)
    frames, at = 0, _LOG_HEADER.size
    while at + _FRAME.size <= len(data) and _FRAME.unpack_from(data, at)[0] == salts:
        frames += 1
        at += _FRAME.size + page_bytes
    return frames
