"""One SQLite connection and the thread that uses it."""

import asyncio
import os
import sqlite3
import struct
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

BUSY_S = 0.9  # for a lock that another node's commit holds (about 1 ms each); below the facade's attempt timeout
WAL_TRIES, WAL_PAUSE_S = 40, 0.025  # at most 1 s at the start; it takes some milliseconds

_HEADER = struct.Struct(">8xI4x8s8x")  # of the log: page size, salts
_FRAME = struct.Struct(">8x8s8x")  # the header of a frame: salts; a page follows

T = TypeVar("T")


class Database:
    """A connection to an SQLite file in WAL mode, flushed to the disk at each commit.

    Args:
        path: the file; it is made when it is missing.
        tables: statements that make what is missing in it.

    Raises:
        sqlite3.Error: the file cannot be opened, or is no database.
    """

    def __init__(self, path: Path, tables: Iterable[str]) -> None:
        self.connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        self.connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # for a new file: what is deleted can be given back
        _switch_to_wal(self.connection)
        self.connection.execute("PRAGMA synchronous = FULL")
        for table in tables:
            self.connection.execute(table)
        self._path, self._file = path, path.stat()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns or raises, in the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, self.connection)

    def in_place(self) -> bool:
        """Whether its path still leads to the file; 2 us. What goes into a file that was removed is on no disk."""
        try:
            return os.path.samestat(self._path.stat(), self._file)
        except OSError:
            return False

    def close(self) -> None:
        """Finish what runs and close the file."""
        self._thread.shutdown()
        self.connection.close()


def frames_in_log(path: Path) -> int:
    """Pages in the write-ahead log of a file, also those that SQLite will not use: a write that was cut off.

    See "WAL File Format" in SQLite's documentation: a header, then frames; those of an earlier round carry other salts.
    """
    log = Path(f"{path}-wal")
    data = log.read_bytes() if log.is_file() else b""
    if len(data) < _HEADER.size:
        return 0
    page_bytes, salts = _HEADER.unpack_from(data)
    frames, at = 0, _HEADER.size
    while at + _FRAME.size <= len(data) and _FRAME.unpack_from(data, at)[0] == salts:
        frames += 1
        at += _FRAME.size + page_bytes
    return frames


def in_transaction(work: Callable[[sqlite3.Connection], T]) -> Callable[[sqlite3.Connection], T]:
    """The same work, whole and flushed to the disk, or not done at all."""

    def run(connection: sqlite3.Connection) -> T:
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except sqlite3.Error:
            if connection.in_transaction:  # some errors have rolled back already
                connection.rollback()
            raise
        return result

    return run


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
