"""Measures the resource usage of a running cluster: memory, descriptors, threads, and bytes on disk."""

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from common import hostport
from scripts.launcher.cluster import Cluster
from scripts.launcher.processes import Processes, gone

SAMPLE_EVERY_S = 5.0
MB = 1_000_000  # bytes
MEASURES = ("memory_mb", "descriptors", "threads")  # fields of Reading
LEAK_MIN = 20.0  # minutes; a process that runs for less is not checked for leaks, because it may still warm up
LEAK_RATIO = 1.5  # above this a process leaks; an hour of faults gives 1.1 (docs/history/measurements-2026-11.md)


@dataclass(frozen=True, slots=True)
class Reading:
    """The resource usage of one process; memory is resident memory."""

    pid: int
    memory_mb: float
    descriptors: int
    threads: int


@dataclass(frozen=True, slots=True)
class Sample:
    """The resource usage of a cluster at one moment.

    Attributes:
        at_min: minutes since the start of the measurement.
        parts: usage by name: the launcher's parts, and "member-1" … for the Hazelcast members; only running processes.
        journals_mb: size of SQLite's file and its write-ahead log, by name of the node.
        logs_mb: size of the log file, by name of the part.
    """

    at_min: float
    parts: dict[str, Reading]
    journals_mb: dict[str, float]
    logs_mb: dict[str, float]


@dataclass(frozen=True, slots=True)
class Growth:
    """How one measure of one part changed since the part was last started.

    Attributes:
        part: its name.
        what: one of MEASURES.
        minutes: since that start, or since the start of the measurement if that was later.
        before, after: medians of the measure in the second tenth and in the last tenth of that time.
    """

    part: str
    what: str
    minutes: float
    before: float
    after: float

    @property
    def ratio(self) -> float:
        """`after` divided by `before`; 1.0 means no growth."""
        return self.after / self.before if self.before else 1.0

    @property
    def leaks(self) -> bool:
        """True if the measure keeps growing in a process that has run for long enough to have warmed up."""
        return self.minutes >= LEAK_MIN and self.ratio > LEAK_RATIO


@contextmanager
def sampling(cluster: Cluster, began_s: float) -> Iterator[list[Sample]]:
    """Take a sample every SAMPLE_EVERY_S while the block runs; minute 0 is at `began_s` (monotonic seconds)."""
    samples: list[Sample] = []
    over = threading.Event()

    def work() -> None:
        while not over.wait(SAMPLE_EVERY_S):
            samples.append(sample(cluster, (time.monotonic() - began_s) / 60))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


def sample(cluster: Cluster, at_min: float) -> Sample:
    """The resource usage of a cluster now; `at_min` is the time to record."""
    nodes = {f"-{hostport.split(part.address)[1]}": part.name for part in cluster.parts if part.member}
    numbers = range(1, len(nodes) + 1)
    return Sample(
        at_min=at_min,
        parts=readings(_running(cluster)),
        journals_mb={f"logging-{number}": _journal_mb(cluster.journal(number)) for number in numbers},
        logs_mb={_log_name(path.stem, nodes): _mb(path) for path in sorted((cluster.folder / "logs").glob("*.log"))},
    )


def readings(processes: Iterable[tuple[str, psutil.Process]]) -> dict[str, Reading]:
    """The resource usage of each process by its name, without processes that have ended meanwhile."""
    found = {}
    for name, process in processes:
        with contextlib.suppress(
            psutil.NoSuchProcess, psutil.AccessDenied
        ):  # a process that just ended may raise either
            memory_mb = process.memory_info().rss / MB
            reading = Reading(process.pid, memory_mb, process.num_fds(), process.num_threads())
            if not gone(process):  # a zombie reports no usage
                found[name] = reading
    return found


def growths(samples: Sequence[Sample]) -> list[Growth]:
    """The growth of each measure of each part that runs at the end."""
    found = []
    for part, last in (samples[-1].parts if samples else {}).items():
        same_process = [one for one in samples if part in one.parts and one.parts[part].pid == last.pid]
        minutes = same_process[-1].at_min - same_process[0].at_min
        for what in MEASURES:
            before, after = tenths([float(getattr(one.parts[part], what)) for one in same_process])
            found.append(Growth(part, what, minutes, before, after))
    return found


def tenths(values: Sequence[float]) -> tuple[float, float]:
    """The medians of the second and the last tenth; the first tenth is left out, because a starting process grows."""
    count = max(1, len(values) // 10)
    return median(values[count : 2 * count] or values), median(values[-count:])


def _running(cluster: Cluster) -> Iterator[tuple[str, psutil.Process]]:
    """(name, process) of each running part; sends no request, so that hung processes are measured, too."""
    processes = Processes(cluster.folder)
    for name in processes.names():
        if (process := processes.find(name)) is None:
            continue
        yield name, process
        if name.startswith("logging-"):
            with contextlib.suppress(psutil.NoSuchProcess):
                yield from ((name.replace("logging", "member"), child) for child in process.children()[:1])


def _log_name(stem: str, nodes: dict[str, str]) -> str:
    """The name of the part that writes a log file; the log of a member has the port of its node in its name."""
    return next((node.replace("logging", "member") for port, node in nodes.items() if stem.endswith(port)), stem)


def _journal_mb(path: Path) -> float:
    return _mb(path) + _mb(path.with_name(f"{path.name}-wal"))


def _mb(path: Path) -> float:
    """The size of a file in MB; 0.0 if it does not exist."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size / MB
    return 0.0
