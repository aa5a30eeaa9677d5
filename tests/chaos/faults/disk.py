"""Disk faults: a lost, torn, damaged, failing or full disk of one node."""

import contextlib
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from common.errors import FatalError
from scripts.launcher import processes
from scripts.launcher.processes import run_command
from tests.chaos.faults.stage import DEAD_S, NODES, Stage
from tests.support.clusters import quiet

WIPED_S = 5.0  # between the loss of one disk and the death of all nodes
SAFE_S = 2.0  # this long after its acknowledgement a message is on the disk of every live node
FULL_S = 6.0  # how long a disk stays full
ROOM_BYTES = 65_536  # free space on a "full" disk
TORN_BYTES = 3_000  # cut from the end of the newest file: less than one page of 4,096 bytes
GONE_S = 20.0  # within which a node must end after its disk fails


def wipe(stage: Stage) -> None:
    """Delete the journal of a node under load; after the node has ended, kill the others and restart all.

    Raises:
        FatalError: the node did not end by itself, or did not log why.
    """
    victim = stage.chance.choice(NODES)
    node = stage.node(victim)
    stage.recorder.mark("wipe")
    stage.recorder.excuse(SAFE_S)  # messages that only the deleted journal had
    for file in _files(stage.cluster.journal(victim)):
        file.unlink()
    _await_end(stage, victim, node)
    time.sleep(WIPED_S)
    stage.recorder.mark("kill")
    stage.cluster.kill({*NODES} - {victim})
    time.sleep(DEAD_S)
    stage.cluster.start(NODES, quiet)


def torn(stage: Stage) -> None:
    """Kill a node and truncate its write-ahead log, as a power cut before a flush does; then restart it."""
    victim = stage.chance.choice(NODES)
    stage.recorder.mark("kill")
    stage.cluster.kill([victim])
    newest = Path(f"{stage.cluster.journal(victim)}-wal")
    with newest.open("r+b") as file:
        file.truncate(max(0, newest.stat().st_size - TORN_BYTES))
    stage.cluster.start([victim], quiet)


def flipped(stage: Stage) -> None:
    """Kill a node and change bytes of its journal; it must refuse to start, and catch up after its journal is deleted.

    Raises:
        FatalError: the node started with the damaged journal.
    """
    victim = stage.chance.choice(NODES)
    stage.recorder.mark("kill")
    stage.cluster.kill([victim])
    path = stage.cluster.journal(victim)
    with contextlib.closing(sqlite3.connect(path)) as connection:  # so that all data is in one file
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(path.read_bytes())
    found = data.find(b"payload", len(data) // 2)
    data[found : found + 7] = b"PAYLOAD"
    path.write_bytes(data)
    try:
        stage.cluster.start([victim], quiet)
    except FatalError as error:
        if "is damaged" not in str(error):
            raise
    else:
        raise FatalError(f"logging node {victim} started with a damaged journal")
    stage.cluster.wipe([victim])
    stage.cluster.start([victim], quiet)


def failing(stage: Stage) -> None:
    """Let every flush of a node fail with EIO; after the node has logged why and ended, restart it.

    Raises:
        FatalError: the node did not end by itself, or did not log why.
    """
    victim = stage.chance.choice(NODES)
    node = stage.node(victim)
    stage.recorder.mark("fail")
    with _injected(node.pid):
        _await_end(stage, victim, node)
    stage.cluster.start([victim], quiet)


def full(stage: Stage) -> None:
    """Fill the disk of a node for FULL_S, then free the space; the node must recover without a restart."""
    victim = stage.chance.choice(NODES)
    small = stage.cluster.folder / "small"
    small.mkdir()
    run_command("mount", "-t", "tmpfs", "-o", "size=1G", "small", str(small))
    stage.cleanup.callback(run_command, "umount", str(small))
    stage.recorder.mark("stop")
    processes.end([stage.node(victim)], psutil.Process.terminate)
    _move(stage.cluster.journal(victim), small)
    stage.cluster.start([victim], quiet)
    used_bytes = sum(file.stat().st_size for file in small.iterdir())
    stage.recorder.mark("full")
    run_command("mount", "-o", f"remount,size={used_bytes + ROOM_BYTES}", str(small))
    time.sleep(FULL_S)
    stage.recorder.mark("space")
    run_command("mount", "-o", "remount,size=1G", str(small))
    time.sleep(DEAD_S)


def _await_end(stage: Stage, number: int, node: psutil.Process) -> None:
    """Wait until a node whose disk failed has ended by itself.

    Raises:
        FatalError: it runs after GONE_S, or its last log line does not name the journal.
    """
    ends = time.monotonic() + GONE_S
    while not processes.gone(node):
        if time.monotonic() > ends:
            raise FatalError(f"logging node {number} still runs, although its disk fails")
        time.sleep(processes.POLL_S)
    last = stage.cluster.last_line(f"logging-{number}")
    if "the journal cannot be used any more" not in last:
        raise FatalError(f"logging node {number} did not log why it ended; its last line: {last}")


@contextmanager
def _injected(pid: int) -> Iterator[None]:
    """Make every flush of a process fail while the block runs, by strace."""
    command = ["strace", "-f", "-q", "-p", str(pid), "-e", "trace=fsync,fdatasync", "-o", "/dev/null"]
    with subprocess.Popen(
        [*command, "-e", "inject=fsync,fdatasync:error=EIO"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as tracer:
        try:
            yield
        finally:
            tracer.kill()  # strace may ignore SIGTERM after the traced process has ended


def _files(journal: Path) -> list[Path]:
    """The files of a journal: the database and SQLite's files beside it."""
    return list(journal.parent.glob(f"{journal.name}*"))


def _move(journal: Path, folder: Path) -> None:
    """Move a journal to another folder and leave a symbolic link."""
    for file in _files(journal):
        shutil.move(file, folder / file.name)
    journal.symlink_to(folder / journal.name)
