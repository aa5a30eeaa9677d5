"""Access to an SQLite file: exclusive lock, connections with a thread each, transactions, write-ahead log."""

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

BUSY_MS = 900  # wait for a lock that another program, such as a backup, holds; below the facade's attempt timeout
FREED_PAGES = 250  # 1 MB: pages freed in one transaction, so that commits get in between
LOG_PAGES = 1_000  # length of the log at which a checkpoint is due; SQLite's own default
LOG_BYTES = 16_777_216  # size above which the log is emptied, because opening a journal reads the whole log
SIZE_CHECK_COMMITS = 100  # commits between two checks of the size of the log file

# Errors after which the content of the file cannot be trusted. After a failed flush, for example, the operating system
# may report pages as written that are not on the disk, so nothing is retried.
_FINAL = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY)
# Writes that failed for lack of room: quota (EDQUOT), file size limit (EFBIG), and no page for the index of the log. A
# full disk (ENOSPC) is SQLITE_FULL. Nothing was committed, and the next write may succeed.
_NO_ROOM = (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)

_KIND = 0xFF  # mask: the low byte of an error code is its kind, the other bytes are details

# See "WAL-mode File Format" in SQLite's documentation.
_LOG_HEADER = struct.Struct(">8xI4x8s8x")  # page size in bytes, salts
_FRAME = struct.Struct(">8x8s8x")  # header of a frame: salts; a page follows
_INDEX_FRAMES = 16  # offset of the number of frames in the index of the log: 4 bytes in the machine's byte order

T = TypeVar("T")


class UnusableError(StoreError):
    """Raised when the file is not what was written: it was removed or replaced, or a message in it is damaged."""


class Database:
    """A connection to an SQLite file in WAL mode, and the thread that uses it. Each commit is flushed to the disk.

    Args:
        path: the file; created if it is missing.

    Raises:
        sqlite3.Error: the file cannot be opened, or is not a database.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            set_busy_ms(self.connection, BUSY_MS)
            self.connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # lets a new file shrink after deletions
            self.connection.execute("PRAGMA journal_mode = WAL").fetchone()
            self.connection.execute("PRAGMA synchronous = FULL")
            self.connection.execute("PRAGMA wal_autocheckpoint = 0")  # automatic checkpoints hide their errors
        except sqlite3.Error:
            self.connection.close()
            raise
        self._file = path.stat()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._in_use = threading.Lock()
        self._waits = True  # whether statements wait BUSY_MS for a lock

    def start(self, work: Callable[[sqlite3.Connection], T]) -> "asyncio.Future[T]":
        """Run `work` in the thread, after all work started before; it runs even if nobody awaits the future."""
        return asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._in_use:
            self._set_waits(waits=True)
            return work(self.connection)

    def _set_waits(self, *, waits: bool) -> None:
        """Set whether statements wait for locks that other programs hold."""
        if waits != self._waits:
            self._waits = waits
            set_busy_ms(self.connection, BUSY_MS if waits else 0)

    def run_here(self, work: Callable[[sqlite3.Connection], object]) -> bool:
        """Run `work` in the calling thread, ahead of work that is queued for the connection's thread.

        Returns: True if it ran; False, with nothing done, while that thread is busy or another program holds a lock,
        and after `close`.
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
        """True if the path still leads to the open file; writes to a removed file would be lost. Takes 2 us."""
        try:
            return os.path.samestat(self._path.stat(), self._file)
        except OSError:
            return False

    def close(self) -> None:
        """Finish the work that was started, and close the file."""
        self._thread.shutdown()
        self._in_use.acquire()  # never released, so that `run_here` does nothing after this
        self.connection.close()


class WriteAheadLog:
    """The write-ahead log of an SQLite file, and the checkpoints that copy it into the file.

    Args:
        path: the file, which a connection has opened in WAL mode.

    Attributes:
        error: why the last checkpoint failed; None if it succeeded.
    """

    def __init__(self, path: Path) -> None:
        self._log = Path(f"{path}-wal")
        self._index_path = f"{path}-shm"
        self._index: int | None = None
        self._unchecked = 0  # commits since the size was checked
        self.error: sqlite3.Error | None = None

    def is_due(self) -> bool:
        """True if the log has more than LOG_PAGES pages. Valid after the first checkpoint; takes 1 us."""
        try:
            if self._index is None:
                self._index = os.open(self._index_path, os.O_RDONLY)
            frames = int.from_bytes(os.pread(self._index, 4, _INDEX_FRAMES), sys.byteorder)
            return frames > LOG_PAGES or self._is_long()
        except OSError:  # no descriptor is left, or the file is gone: checked again after the next write
            return False

    def _is_long(self) -> bool:
        """True if the log file is longer than LOG_BYTES, as after a long read; checks once in SIZE_CHECK_COMMITS."""
        self._unchecked = (self._unchecked + 1) % SIZE_CHECK_COMMITS
        return self._unchecked == 0 and self._log.stat().st_size > LOG_BYTES

    def checkpoint(self, connection: sqlite3.Connection) -> int:
        """Copy the log into the file as far as readers allow; empty it if it exceeds LOG_BYTES and all was copied.

        Returns: the number of pages that the log had.

        Raises:
            sqlite3.Error: the checkpoint failed; `error` keeps it. Leaving pages to a later checkpoint is no failure.
        """
        try:
            _, pages, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if pages == copied and self._log.stat().st_size > LOG_BYTES:
                set_busy_ms(connection, 0)  # do not wait for readers of the log: the next checkpoint is soon
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            self.error = error
            raise
        finally:
            set_busy_ms(connection, BUSY_MS)
        self.error = None
        return int(pages)

    def require(self, connection: sqlite3.Connection) -> None:
        """Repeat a failed checkpoint, unless its error was final.

        Raises:
            sqlite3.Error: the last checkpoint failed with a final error, or failed again now.
        """
        if self.error and is_final(self.error):
            raise self.error
        if self.error:
            self.checkpoint(connection)

    def close(self) -> None:
        """Close the index. Call it after closing the connections: it releases the locks that they hold on the index."""
        if self._index is not None:
            os.close(self._index)


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Lock a file against other users, by a lock on `<path>.lock` that ends with this process at the latest.

    Raises:
        FatalError: the lock is already held, in this process or in another one.
    """
    with Path(f"{path}.lock").open("w") as file:
        for suffix in ("", "-wal", "-shm", ".lock"):
            with contextlib.suppress(OSError):  # it is missing, or belongs to somebody else
                Path(f"{path}{suffix}").chmod(0o600)  # files of earlier versions were readable by everybody
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FatalError(f"cannot use {path} as a journal: another logging node uses it") from error
        yield


def in_transaction(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    """Run `work` in a transaction: commit and flush it to the disk, or roll it back if it fails."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # after some errors SQLite has already rolled back
            connection.rollback()
        raise
    return result


@contextlib.contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Make all reads in the block see one snapshot."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.rollback()


def is_final(error: BaseException) -> bool:
    """True if the content of the file cannot be trusted after this error."""
    code = getattr(error, "sqlite_errorcode", 0)
    kind = code & _KIND
    return isinstance(error, UnusableError) or (kind in _FINAL and code not in _NO_ROOM)


def set_busy_ms(connection: sqlite3.Connection, busy_ms: int) -> None:
    """Set how long a statement waits for a lock, in milliseconds."""
    connection.execute(f"PRAGMA busy_timeout = {busy_ms}").fetchone()


def free_pages(connection: sqlite3.Connection) -> int:
    """Return FREED_PAGES free pages to the file system; the number of free pages that are left."""
    for _ in range(FREED_PAGES):
        connection.execute("PRAGMA incremental_vacuum(1)").fetchall()  # frees one page
    return int(connection.execute("PRAGMA freelist_count").fetchone()[0])


def frames_in_log(path: Path) -> int:
    """The number of pages in the log of a file, including an incomplete transaction that SQLite will not use.

    Frames from an earlier use of the log have other salts and are not counted.
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
