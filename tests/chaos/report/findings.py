"""What a soak found: its report, and the plot of it. Pure."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

from tests.chaos.checker import Verdict
from tests.chaos.report.plot import Mark, Panel, Point, Series, plot
from tests.chaos.report.samples import SAMPLE_EVERY_S, Growth, Reading, Sample


@dataclass(frozen=True, slots=True)
class Event:
    """One fault; times are in minutes since the begin.

    Attributes:
        healed_min: when what was broken had been healed.
        converged_min: when every node saw every member again, for good.
        outage_ms: the longest time without an acknowledged post until then.
        read_outage_ms: the same without a read of one message.
    """

    fault: str
    began_min: float
    healed_min: float
    converged_min: float
    outage_ms: float
    read_outage_ms: float


@dataclass(frozen=True, slots=True)
class Findings:
    """All of it; what is only known at the end is None before.

    Attributes:
        rate: posts a second that were wanted.
        put_off: faults that began late, as what the one before had broken had not converged.
        failures: faults that did not heal, and what was not there to be judged.
        errors: of clients.
        first_errors: some of them.
        reads, looks: reads of everything, and of one message.
        outage_ms, read_outage_ms: the longest ones, by the kind of the fault.
        posts: (minutes, acknowledged posts a second).
        differing: nodes that at the end had not exactly what was read.
    """

    seed: int
    minutes: float
    every_s: float
    rate: float
    events: list[Event]
    put_off: int
    failures: list[str]
    errors: int
    first_errors: list[str]
    reads: int
    looks: int
    outage_ms: dict[str, float]
    read_outage_ms: dict[str, float]
    growths: list[Growth]
    posts: list[Point]
    samples: list[Sample]
    verdict: Verdict | None = None
    differing: int | None = None

    @property
    def violations(self) -> int:
        """Promises that were broken, and what leaks: no fault of a soak excuses an error of a client."""
        broken: dict[str, int] = asdict(self.verdict.broken) if self.verdict else {}
        leaks = sum(growth.leaks for growth in self.growths)
        return sum(broken.values()) + (self.differing or 0) + self.errors + len(self.failures) + leaks


def longest(events: Iterable[Event], outage_ms: Callable[[Event], float]) -> dict[str, float]:
    """The longest outage by the kind of the fault."""
    found: dict[str, float] = {}
    for event in events:
        found[event.fault] = max(found.get(event.fault, 0.0), outage_ms(event))
    return found


def rates(times_min: Iterable[float], until_min: float) -> list[Point]:
    """(minutes, how many a second) of what happened at these times, for each SAMPLE_EVERY_S that is over."""
    wide_min = SAMPLE_EVERY_S / 60
    counts = Counter(int(at_min / wide_min) for at_min in times_min)
    whole = range(int(until_min / wide_min + 1e-9))
    return [((place + 0.5) * wide_min, counts[place] / SAMPLE_EVERY_S) for place in whole]


def drawn(found: Findings) -> str:
    """The plot, as SVG."""
    samples = found.samples
    parts = list(dict.fromkeys(name for one in samples for name in one.parts))
    members = [name for name in parts if name.startswith("member-")]
    others = [name for name in parts if name not in members]
    panels = (
        Panel("memory, MB", _measured(samples, others, lambda one: one.memory_mb)),
        Panel("memory of members, MB", _measured(samples, members, lambda one: one.memory_mb)),
        Panel("open descriptors", _measured(samples, parts, lambda one: one.descriptors)),
        Panel("threads", _measured(samples, parts, lambda one: one.threads)),
        Panel("journals, MB", _sized(samples, lambda one: one.journals_mb)),
        Panel("logs, MB", _sized(samples, lambda one: one.logs_mb)),
        Panel("acknowledged posts a second", [Series("posts", [found.posts])]),
    )
    title = f"Soak of {found.minutes:g} minutes, seed {found.seed}: a fault every {found.every_s:g} s; dots: restarts"
    return plot(title, panels, [Mark(event.began_min, event.fault) for event in found.events], found.minutes)


def _measured(samples: Sequence[Sample], parts: Iterable[str], value: Callable[[Reading], float]) -> list[Series]:
    """A series for each part, with a run for each of its processes."""
    series = []
    for part in parts:
        runs: dict[int, list[Point]] = {}
        for one in samples:
            if reading := one.parts.get(part):
                runs.setdefault(reading.pid, []).append((one.at_min, value(reading)))
        series.append(Series(part, list(runs.values())))
    return series


def _sized(samples: Sequence[Sample], sizes: Callable[[Sample], dict[str, float]]) -> list[Series]:
    names = dict.fromkeys(name for one in samples for name in sizes(one))
    return [Series(name, [[(one.at_min, sizes(one)[name]) for one in samples if name in sizes(one)]]) for name in names]
