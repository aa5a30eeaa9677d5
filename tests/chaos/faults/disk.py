"""What a torture run does to the disk of a node."""

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
from tests.chaos.faults.stage import DEAD_S, NODES, Stage, quiet

WIPED_S = 5.0  # between the loss of one disk and the death of all nodes
SAFE_S = 2.0  # after its acknowledgement a message is on every live node's disk
FULL_S = 6.0  # that a disk stays full ...
ROOM_BYTES = 65_536  # ... but for these
TORN_BYTES = 3_000  # that are missing at the end of the newest file: less than a page of 4,096 bytes
GONE_S = 20.0  # for a node whose disk fails to end


def wipe(stage: Stage) -> None:
    """A node loses its disk under load and ends; then the others die, too, and all are started again.

    Raises:
        FatalError: it did not end by itself, or did not say why.
    """
    victim = stage.chance.choice(NODES)
    node = stage.node(victim)
    stage.recorder.mark("wipe")
    stage.recorder.excuse(SAFE_S)  # what only that disk had
    for file in _files(stage.cluster.journal(victim)):
        file.unlink()
    _await_its_end(stage, victim, node)
    time.sleep(WIPED_S)
    stage.recorder.mark("kill")
    stage.cluster.kill({*NODES} - {victim})
    time.sleep(DEAD_S)
    stage.cluster.start(NODES, quiet)


def torn(stage: Stage) -> None:
    """A node dies, and the end of what it wrote last is missing, as after a power cut without a flush."""
    victim = stage.chance.choice(NODES)
    stage.recorder.mark("kill")
    stage.cluster.kill([victim])
    newest = Path(f"{stage.cluster.journal(victim)}-wal")
    with newest.open("r+b") as file:
        file.truncate(max(0, newest.stat().st_size - TORN_BYTES))
    stage.cluster.start([victim], quiet)


def flipped(stage: Stage) -> None:
    """A node dies, bytes of its journal change, and it refuses to start; wiped, it gets everything from its peers.

    Raises:
        FatalError: it started all the same.
    """
    victim = stage.chance.choice(NODES)
    stage.recorder.mark("kill")
    stage.cluster.kill([victim])
    path = stage.cluster.journal(victim)
    with contextlib.closing(sqlite3.connect(path)) as connection:  # so that all is in one file
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
    """The disk of a node does not flush any more (EIO): the node says why and ends, and is started again.

    Raises:
        FatalError: it did not end by itself, or did not say why.
    """
    victim = stage.chance.choice(NODES)
    node = stage.node(victim)
    stage.recorder.mark("fail")
    with _injected(node.pid):
        _await_its_end(stage, victim, node)
    stage.cluster.start([victim], quiet)


def full(stage: Stage) -> None:
    """The disk of a node is full for some seconds; then there is space again, and nobody helps."""
    victim = stage.chance.choice(NODES)
    small = stage.cluster.folder / "small"
    small.mkdir()
    run_command("mount", "-t", "tmpfs", "-o", "size=1G", "small", str(small))
    stage.at_last.callback(run_command, "umount", str(small))
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


def _await_its_end(stage: Stage, number: int, node: psutil.Process) -> None:
    ends = time.monotonic() + GONE_S
    while not processes.gone(node):
        if time.monotonic() > ends:
            raise FatalError(f"logging node {number} goes on, although its disk fails")
        time.sleep(processes.POLL_S)
    last = stage.cluster.last_line(f"logging-{number}")
    if "the journal cannot be used any more" not in last:
        raise FatalError(f"logging node {number} did not say why it ended, but: {last}")


@contextmanager
def _injected(pid: int) -> Iterator[None]:
    """Every flush of a process fails while the block runs."""
    command = ["strace", "-f", "-q", "-p", str(pid), "-e", "trace=fsync,fdatasync", "-o", "/dev/null"]
    with subprocess.Popen(
        [*command, "-e", "inject=fsync,fdatasync:error=EIO"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as tracer:
        try:
            yield
        finally:
            tracer.kill()  # it may not notice a SIGTERM when what it traces has ended


def _files(journal: Path) -> list[Path]:
    """The file of a journal, and SQLite's beside it."""
    return list(journal.parent.glob(f"{journal.name}*"))


def _move(journal: Path, folder: Path) -> None:
    for file in _files(journal):
        shutil.move(file, folder / file.name)
    journal.symlink_to(folder / journal.name)
