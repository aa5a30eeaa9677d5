"""`python -m tests.chaos.soak`: loads a real cluster for a long time, with a random fault every half minute."""

import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from common import process
from common.errors import FatalError
from scripts.client.connection import client
from scripts.client.writers import outage_s
from scripts.prepare import prepare
from tests.chaos import checker, convergence
from tests.chaos.faults import processes
from tests.chaos.faults.stage import Stage, on_this_machine
from tests.chaos.recorder import LoadProfile
from tests.chaos.report.findings import FaultEvent, Findings, drawn, longest, rates
from tests.chaos.report.samples import Sample, growths, sampling

HANG_S = (6.0, 10.0)  # a paused process stays paused for longer than all time-outs, and resumes before the next fault
WRITERS = 4
READ_PAUSE_S, READS = 60.0, 10  # between two reads of the whole log; a short soak makes at least READS of them
LOOK_PAUSE_S = 0.1  # between two reads of one message; the resolution of the reported read outages
ERRORS = 20  # client errors that the report contains
FAULTS: dict[str, Callable[[Stage], None]] = {  # clients must not notice any of them
    "kill": processes.kill,
    "kill2": processes.kill2,
    "pause-node": processes.pause_node,
    "pause-member": processes.pause_member,
    "pause-member2": processes.pause_member2,
    "registry": processes.registry,
    "stop": processes.stop,
}


@dataclass(frozen=True, slots=True)
class SoakPlan:
    """What a soak does, as its command line asks.

    Attributes:
        minutes: how long the cluster is loaded.
        seed: of the random choices.
        every_s: from the start of a fault to the start of the next one.
        rate: posts a second of all writers together.
    """

    minutes: float
    seed: int
    every_s: float
    rate: float

    @property
    def load(self) -> LoadProfile:
        """A limited load, because each whole read returns all messages, and an hour at full speed stores millions."""
        return LoadProfile(
            writers=WRITERS,
            write_every_s=WRITERS / self.rate,
            read_pause_s=min(READ_PAUSE_S, 60 * self.minutes / READS),
            look_pause_s=LOOK_PAUSE_S,
            curl=False,
        )


@dataclass(slots=True)
class Soak:
    """One run of a soak.

    Attributes:
        plan: what the run does.
        stage: the cluster and its recorder.
        began_s: when the load began, in monotonic seconds.
        samples: resource usage so far.
        events: faults so far.
        failures: errors of the harness so far, such as a fault that did not heal.
        put_off: faults that began late because the one before had not converged in time.
    """

    plan: SoakPlan
    stage: Stage
    began_s: float
    samples: list[Sample]
    events: list[FaultEvent] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    put_off: int = 0

    def disturb(self) -> Iterator[FaultEvent]:
        """Inject one fault after the other until the time is over; each waits until the one before has converged.

        Raises:
            one of tests.chaos.convergence.FAILURES: a fault did not heal.
        """
        due, ends = self.began_s + self.plan.every_s, self.began_s + 60 * self.plan.minutes
        while due < ends:
            _wait_until(due)
            self.events.append(self._fault())
            yield self.events[-1]
            due, now = due + self.plan.every_s, time.monotonic()
            if due < now < ends:
                self.put_off += 1
            due = max(due, now)
        _wait_until(ends)

    def found(self) -> Findings:
        """The findings so far, without a verdict."""
        recorder = self.stage.recorder
        return Findings(
            **asdict(self.plan),
            events=self.events,
            put_off=self.put_off,
            failures=self.failures,
            errors=len(recorder.errors) + len(recorder.missing),
            first_errors=[*recorder.missing, *recorder.errors][:ERRORS],
            reads=len(recorder.reads),
            looks=len(recorder.looks) + len(recorder.pages),
            outage_ms=longest(self.events, lambda event: event.outage_ms),
            read_outage_ms=longest(self.events, lambda event: event.read_outage_ms),
            growths=growths(self.samples),
            posts=rates(map(self._minute, recorder.acknowledged_s()), self._minute(time.monotonic())),
            samples=self.samples,
        )

    def judged(self) -> Findings:
        """The findings with a verdict on the history; call it after the load has ended.

        If a node does not answer, `differing` stays None and the error is added to the failures.

        Raises:
            one of tests.chaos.convergence.FAILURES: the log cannot be read.
        """
        recorder, cluster = self.stage.recorder, self.stage.cluster
        before = len(recorder.reads)
        with client(recorder.address) as reader:
            recorder.read(reader)
        if len(recorder.reads) == before:
            raise FatalError(f"the last read failed: {recorder.errors[-1]}")
        differing = None
        try:
            differing = convergence.differing(cluster, set(recorder.reads[-1].texts))
        except convergence.FAILURES as error:
            self.failures.append(repr(error))
        return replace(self.found(), verdict=checker.check(*recorder.history()), differing=differing)

    def _fault(self) -> FaultEvent:
        """Inject one random fault, wait until the cluster has converged, and measure the outages."""
        chance, recorder = self.stage.chance, self.stage.recorder
        name, began_s = chance.choice(list(FAULTS)), time.monotonic()
        FAULTS[name](replace(self.stage, hang_s=chance.uniform(*HANG_S)))
        healed_s = time.monotonic()
        convergence.converge(self.stage.cluster)
        converged_s = time.monotonic()
        return FaultEvent(
            fault=name,
            began_min=self._minute(began_s),
            healed_min=self._minute(healed_s),
            converged_min=self._minute(converged_s),
            outage_ms=1_000 * outage_s(recorder.acknowledged_s(), began_s, converged_s),
            read_outage_ms=1_000 * outage_s(recorder.looks, began_s, converged_s),
        )

    def _minute(self, at_s: float) -> float:
        return (at_s - self.began_s) / 60


def soak(plan: SoakPlan, home: Path, on_progress: Callable[[Findings], None]) -> Findings:
    """Start a cluster in a folder, load it, inject faults, and check what clients saw.

    Args:
        plan: what to do, and for how long.
        home: the folder for its configuration, journals and logs.
        on_progress: called with the findings so far after each fault.
    """
    with on_this_machine(home, random.Random(plan.seed), HANG_S[1], plan.load) as stage:
        began_s = time.monotonic()
        with sampling(stage.cluster, began_s) as samples:
            run = Soak(plan, stage, began_s, samples)
            try:
                with stage.recorder.running():
                    for event in run.disturb():
                        on_progress(found := run.found())
                        click.echo(_line(event, found))
            except convergence.FAILURES as error:
                run.failures.append(repr(error))
            try:
                return run.judged()
            except convergence.FAILURES as error:
                run.failures.append(repr(error))
                return run.found()


@click.command()
@click.option("--minutes", default=60.0, show_default=True, help="Minutes of load.")
@click.option("--seed", default=1, show_default=True, help="Seed of the random choices.")
@click.option("--every", "every_s", default=30.0, show_default=True, help="Seconds from one fault to the next.")
@click.option("--rate", default=100.0, show_default=True, help="Posts a second.")
@click.option("--report", type=click.Path(path_type=Path), help="JSON file for the findings.")
@click.option("--plot", "picture", type=click.Path(path_type=Path), help="SVG file for the plot of the measurements.")
@click.option("--data", type=click.Path(path_type=Path), help="New folder for journals and logs; it is kept.")
def main(
    minutes: float, seed: int, every_s: float, rate: float, report: Path | None, picture: Path | None, data: Path | None
) -> None:
    """Inject faults into a loaded cluster for a long time; exit with 1 if a promise was broken."""
    if data and data.exists():  # messages of an old journal would count as phantoms
        raise click.BadParameter(f"{data} exists already", param_hint="--data")
    process.exit_on_signal("soak")
    prepare(click.echo)

    def save(found: Findings) -> None:  # after each fault, because a long soak may be interrupted
        if report:
            _write(report, msgspec.json.encode(found))
        if picture:
            _write(picture, drawn(found).encode())

    home: AbstractContextManager[str | Path] = nullcontext(data) if data else tempfile.TemporaryDirectory()
    with home as folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        found = soak(SoakPlan(minutes, seed, every_s, rate), Path(folder), save)
    save(found)
    _print_summary(found)
    sys.exit(f"soak: promises were broken {found.violations} times" if found.violations else 0)


def _wait_until(at_s: float) -> None:
    time.sleep(max(0.0, at_s - time.monotonic()))


def _write(path: Path, data: bytes) -> None:
    """Replace a file atomically, because a soak may be interrupted while it writes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.new")
    draft.write_bytes(data)
    draft.replace(path)


def _line(event: FaultEvent, found: Findings) -> str:
    converged_s = 60 * (event.converged_min - event.healed_min)
    fields = (
        f"no post for {event.outage_ms:.0f} ms, no read for {event.read_outage_ms:.0f} ms",
        f"converged {converged_s:.1f} s after the heal",
        f"{found.reads} whole reads, {found.looks} reads of a message or page, {found.errors} errors",
    )
    return f"{event.began_min:.1f} min: {event.fault}: {', '.join(fields)}"


def _shown(count: int | None) -> str:
    """A number, or that it is unknown because the soak ended before it was counted."""
    return "unknown" if count is None else str(count)


def _print_summary(found: Findings) -> None:
    """Print the verdict, the outages and the growth of resources."""
    counts = {**(asdict(found.verdict.broken) if found.verdict else {}), "differing": found.differing}
    click.echo(f"broken: {', '.join(f'{_shown(count)} {name}' for name, count in counts.items())}")
    for failure in (*found.failures, *found.first_errors):
        click.echo(failure)
    click.echo(f"{len(found.events)} faults, {found.put_off} put off; {found.errors} client errors")
    if found.verdict:
        click.echo(f"{found.verdict.acknowledged} acknowledged, {found.verdict.unknown} unknown; {found.reads} reads")
    outages = Table("fault", "times", "no post, ms", "no read, ms")
    for name, outage_ms in found.outage_ms.items():
        times = sum(event.fault == name for event in found.events)
        outages.add_row(name, str(times), f"{outage_ms:.0f}", f"{found.read_outage_ms[name]:.0f}")
    levels = Table("part", "measure", "minutes since start", "before", "after", "ratio", "")
    for one in found.growths:
        figures = (f"{one.minutes:.1f}", f"{one.before:.1f}", f"{one.after:.1f}", f"{one.ratio:.2f}")
        levels.add_row(one.part, one.what, *figures, "leaks" if one.leaks else "")
    Console(width=110).print(outages, levels)


if __name__ == "__main__":
    process.entry("soak", main)()
