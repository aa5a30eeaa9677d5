"""What the processes of a cluster use, measured while it runs: memory, descriptors, threads, and bytes on disk."""

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from common import config
from scripts.launcher.cluster import Cluster
from scripts.launcher.processes import Processes, gone

SAMPLE_EVERY_S = 5.0
MB = 1_000_000  # bytes
MEASURES = ("memory_mb", "descriptors", "threads")  # fields of Reading
LEAK_MIN = 20.0  # minutes that a process runs at least, before what it uses must be level ...
LEAK_RATIO = 1.5  # ... with less than that; in an hour of faults a facade has 1.1 (docs/measurements.md)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one process used: memory is that which is resident."""

    pid: int
    memory_mb: float
    descriptors: int
    threads: int


@dataclass(frozen=True, slots=True)
class Sample:
    """A cluster at one moment.

    Attributes:
        at_min: minutes since the begin.
        parts: by name: those of the launcher, and "member-1" … for the Hazelcast members; what does not run is absent.
        journals_mb: by the name of the node: SQLite's file and its write-ahead log.
        logs_mb: by the name of the part.
    """

    at_min: float
    parts: dict[str, Reading]
    journals_mb: dict[str, float]
    logs_mb: dict[str, float]


@dataclass(frozen=True, slots=True)
class Growth:
    """How a measure of one part changed since its last start.

    Attributes:
        what: one of MEASURES.
        minutes: since that start, or since the begin of the measurement.
        before, after: its medians in the second tenth of that time, and in the last.
    """

    part: str
    what: str
    minutes: float
    before: float
    after: float

    @property
    def ratio(self) -> float:
        """After to before; 1.0 is level."""
        return self.after / self.before if self.before else 1.0

    @property
    def leaks(self) -> bool:
        """Whether it goes on growing when all that it needs is there."""
        return self.minutes >= LEAK_MIN and self.ratio > LEAK_RATIO


@contextmanager
def sampling(cluster: Cluster, began_s: float) -> Iterator[list[Sample]]:
    """Samples while the block runs, one each SAMPLE_EVERY_S; `began_s` is when minute 0 was, in monotonic seconds."""
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
    """What all processes of a cluster use now."""
    nodes = {f"-{config.split(part.address)[1]}": part.name for part in cluster.parts if part.member}
    numbers = range(1, len(nodes) + 1)
    return Sample(
        at_min=at_min,
        parts=readings(_running(cluster)),
        journals_mb={f"logging-{number}": _journal_mb(cluster.journal(number)) for number in numbers},
        logs_mb={_log_name(path.stem, nodes): _mb(path) for path in sorted((cluster.folder / "logs").glob("*.log"))},
    )


def readings(processes: Iterable[tuple[str, psutil.Process]]) -> dict[str, Reading]:
    """What each of these uses, by its name, without those that have ended meanwhile."""
    found = {}
    for name, process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):  # one that just ended may be either
            memory_mb = process.memory_info().rss / MB
            reading = Reading(process.pid, memory_mb, process.num_fds(), process.num_threads())
            if not gone(process):  # or it has nothing, as nobody has waited for it yet
                found[name] = reading
    return found


def growths(samples: Sequence[Sample]) -> list[Growth]:
    """For each part that runs at the end, and each measure."""
    found = []
    for part, last in (samples[-1].parts if samples else {}).items():
        own = [one for one in samples if part in one.parts and one.parts[part].pid == last.pid]
        minutes = own[-1].at_min - own[0].at_min
        for what in MEASURES:
            before, after = tenths([float(getattr(one.parts[part], what)) for one in own])
            found.append(Growth(part, what, minutes, before, after))
    return found


def tenths(values: Sequence[float]) -> tuple[float, float]:
    """The medians of the second tenth and of the last tenth; the first one is left out, as what starts also grows."""
    count = max(1, len(values) // 10)
    return median(values[count : 2 * count] or values), median(values[-count:])


def _running(cluster: Cluster) -> Iterator[tuple[str, psutil.Process]]:
    """The parts that run, by name, without asking them anything: what hangs is measured, too."""
    processes = Processes(cluster.folder)
    for name in processes.names():
        if (process := processes.find(name)) is None:
            continue
        yield name, process
        if name.startswith("logging-"):
            with contextlib.suppress(psutil.NoSuchProcess):
                yield from ((name.replace("logging", "member"), child) for child in process.children()[:1])


def _log_name(stem: str, nodes: dict[str, str]) -> str:
    """The part whose log this is: that of a member has the port of its node in its name."""
    return next((node.replace("logging", "member") for port, node in nodes.items() if stem.endswith(port)), stem)


def _journal_mb(path: Path) -> float:
    return _mb(path) + _mb(path.with_name(f"{path.name}-wal"))


def _mb(path: Path) -> float:
    """The size of a file, 0.0 when there is none."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size / MB
    return 0.0
