"""The findings of a soak: its report and its plot. Pure code."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

from tests.chaos.checker import Verdict
from tests.chaos.report.plot import Mark, Panel, Point, Series, plot
from tests.chaos.report.samples import SAMPLE_EVERY_S, Growth, Reading, Sample


@dataclass(frozen=True, slots=True)
class FaultEvent:
    """One injected fault; times are in minutes since the start of the load.

    Attributes:
        fault: its kind.
        began_min: when it was injected.
        healed_min: when its cause had been removed.
        converged_min: when all nodes had been in sync again for `convergence.STEADY_S`.
        outage_ms: the longest time without an acknowledged post, up to `converged_min`.
        read_outage_ms: the same for successful reads of one message.
    """

    fault: str
    began_min: float
    healed_min: float
    converged_min: float
    outage_ms: float
    read_outage_ms: float


@dataclass(frozen=True, slots=True)
class Findings:
    """The findings of a soak; `verdict` and `differing` are None until its end.

    Attributes:
        seed, minutes, every_s, rate: see tests.chaos.soak.SoakPlan.
        events: injected faults.
        put_off: faults that began late because the one before had not converged in time.
        failures: faults that did not heal, and checks that could not be made.
        errors: client errors, and reads that did not show an acknowledged message.
        first_errors: the first of them.
        reads: reads of the whole log.
        looks: reads of one message or of the newest page.
        outage_ms, read_outage_ms: the longest outage by kind of fault.
        growths: how the resource usage of each part changed.
        posts: (minutes, acknowledged posts a second).
        samples: resource usage over time.
        verdict: the checker's verdict on the history.
        differing: nodes that at the end did not hold exactly the messages of the last read.
    """

    seed: int
    minutes: float
    every_s: float
    rate: float
    events: list[FaultEvent]
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
        """How often promises were broken; client errors, failures and leaks count, because no fault excuses them."""
        broken: dict[str, int] = asdict(self.verdict.broken) if self.verdict else {}
        leaks = sum(growth.leaks for growth in self.growths)
        return sum(broken.values()) + (self.differing or 0) + self.errors + len(self.failures) + leaks


def longest(events: Iterable[FaultEvent], outage_ms: Callable[[FaultEvent], float]) -> dict[str, float]:
    """The longest outage in milliseconds by kind of fault."""
    found: dict[str, float] = {}
    for event in events:
        found[event.fault] = max(found.get(event.fault, 0.0), outage_ms(event))
    return found


def rates(times_min: Iterable[float], until_min: float) -> list[Point]:
    """(minutes, events a second) for each complete interval of SAMPLE_EVERY_S, from the times of the events."""
    interval_min = SAMPLE_EVERY_S / 60
    counts = Counter(int(at_min / interval_min) for at_min in times_min)
    whole = range(int(until_min / interval_min + 1e-9))
    return [((place + 0.5) * interval_min, counts[place] / SAMPLE_EVERY_S) for place in whole]


def drawn(found: Findings) -> str:
    """The plot of the findings, as SVG."""
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
    """One series for each part, with one run for each process that the part had."""
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
