"""`python -m tests.chaos.soak`: a real cluster under load for long, with a random fault every half minute."""

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
from tests.chaos.recorder import Load
from tests.chaos.report.findings import Event, Findings, drawn, longest, rates
from tests.chaos.report.samples import Sample, growths, sampling

HANG_S = (6.0, 10.0)  # that a paused process stays paused: longer than all time-outs, and healed before the next fault
WRITERS = 4
READ_PAUSE_S, READS = 60.0, 10  # between two reads of everything, but in a short soak at least so many of them
LOOK_PAUSE_S = 0.1  # between two reads of one message: as fine as outages of reads are told
ERRORS = 20  # of clients, in the report
FAULTS: dict[str, Callable[[Stage], None]] = {  # no client may notice any of them
    "kill": processes.kill,
    "kill2": processes.kill2,
    "pause-node": processes.pause_node,
    "pause-member": processes.pause_member,
    "pause-member2": processes.pause_member2,
    "registry": processes.registry,
    "stop": processes.stop,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for.

    Attributes:
        minutes: of load.
        seed: of the chance in it.
        every_s: from the begin of a fault to that of the next one.
        rate: posts a second, of all writers.
    """

    minutes: float
    seed: int
    every_s: float
    rate: float

    @property
    def load(self) -> Load:
        """An hour of full speed would be millions of messages, and every read of everything would read them all."""
        return Load(
            writers=WRITERS,
            write_every_s=WRITERS / self.rate,
            read_pause_s=min(READ_PAUSE_S, 60 * self.minutes / READS),
            look_pause_s=LOOK_PAUSE_S,
            curl=False,
        )


@dataclass(slots=True)
class Soak:
    """One run of it, on a stage whose load begins at `began_s` (monotonic seconds)."""

    plan: Plan
    stage: Stage
    began_s: float
    samples: list[Sample]
    events: list[Event] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    put_off: int = 0

    def disturb(self) -> Iterator[Event]:
        """One fault after the other until the time is over; none begins before the one before has converged.

        Raises:
            one of aftermath.FAILURES: a fault did not heal.
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
        """What is known now: all but the verdict."""
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
        """The same with the verdict on all that clients saw, when their load has ended.

        What the nodes have is not known when one of them does not answer: that is a failure, and the verdict stands.

        Raises:
            one of aftermath.FAILURES: the messages cannot be read.
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

    def _fault(self) -> Event:
        chance, recorder = self.stage.chance, self.stage.recorder
        name, began_s = chance.choice(list(FAULTS)), time.monotonic()
        FAULTS[name](replace(self.stage, hang_s=chance.uniform(*HANG_S)))
        healed_s = time.monotonic()
        convergence.converge(self.stage.cluster)
        converged_s = time.monotonic()
        return Event(
            fault=name,
            began_min=self._minute(began_s),
            healed_min=self._minute(healed_s),
            converged_min=self._minute(converged_s),
            outage_ms=1_000 * outage_s(recorder.acknowledged_s(), began_s, converged_s),
            read_outage_ms=1_000 * outage_s(recorder.looks, began_s, converged_s),
        )

    def _minute(self, at_s: float) -> float:
        return (at_s - self.began_s) / 60


def soak(plan: Plan, home: Path, told: Callable[[Findings], None]) -> Findings:
    """Bring up a cluster in a folder, load and disturb it, and check what clients saw.

    Args:
        plan: how long, and what.
        home: for its configuration, journals and logs.
        told: gets what is known after each fault.
    """
    with on_this_machine(home, random.Random(plan.seed), HANG_S[1], plan.load) as stage:
        began_s = time.monotonic()
        with sampling(stage.cluster, began_s) as samples:
            run = Soak(plan, stage, began_s, samples)
            try:
                with stage.recorder.running():
                    for event in run.disturb():
                        told(found := run.found())
                        click.echo(_line(event, found))
            except convergence.FAILURES as error:
                run.failures.append(repr(error))
            try:
                return run.judged()
            except convergence.FAILURES as error:
                run.failures.append(repr(error))
                return run.found()


@click.command()
@click.option("--minutes", default=60.0, show_default=True, help="Of load.")
@click.option("--seed", default=1, show_default=True, help="Of the chance in it.")
@click.option("--every", "every_s", default=30.0, show_default=True, help="Seconds from one fault to the next.")
@click.option("--rate", default=100.0, show_default=True, help="Posts a second.")
@click.option("--report", type=click.Path(path_type=Path), help="A JSON file for all that was found.")
@click.option("--plot", "picture", type=click.Path(path_type=Path), help="An SVG file for what was measured.")
@click.option("--data", type=click.Path(path_type=Path), help="A new folder for journals and logs, which stays.")
def main(
    minutes: float, seed: int, every_s: float, rate: float, report: Path | None, picture: Path | None, data: Path | None
) -> None:
    """Disturb a loaded cluster for long; exit with 1 when a promise was broken."""
    if data and data.exists():  # a journal in it would be judged, too
        raise click.BadParameter(f"{data} is there already", param_hint="--data")
    process.exit_on_signal("soak")
    prepare(click.echo)

    def told(found: Findings) -> None:  # after each fault: a long soak may be ended
        if report:
            _write(report, msgspec.json.encode(found))
        if picture:
            _write(picture, drawn(found).encode())

    home: AbstractContextManager[str | Path] = nullcontext(data) if data else tempfile.TemporaryDirectory()
    with home as folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        found = soak(Plan(minutes, seed, every_s, rate), Path(folder), told)
    told(found)
    _tell(found)
    sys.exit(f"soak: promises were broken {found.violations} times" if found.violations else 0)


def _wait_until(at_s: float) -> None:
    time.sleep(max(0.0, at_s - time.monotonic()))


def _write(path: Path, data: bytes) -> None:
    """Replace a file at once: a soak may be ended while it writes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.new")
    draft.write_bytes(data)
    draft.replace(path)


def _line(event: Event, found: Findings) -> str:
    converged_s = 60 * (event.converged_min - event.healed_min)
    told = (
        f"no post for {event.outage_ms:.0f} ms, no read for {event.read_outage_ms:.0f} ms",
        f"converged {converged_s:.1f} s after the heal",
        f"{found.reads} reads, {found.looks} looks, {found.errors} errors",
    )
    return f"{event.began_min:.1f} min: {event.fault}: {', '.join(told)}"


def _tell(found: Findings) -> None:
    """The verdict, outages and growths, for people."""
    counts = {**(asdict(found.verdict.broken) if found.verdict else {}), "differing": found.differing or 0}
    click.echo(f"broken: {', '.join(f'{count} {name}' for name, count in counts.items())}")
    for failure in (*found.failures, *found.first_errors):
        click.echo(failure)
    click.echo(f"{len(found.events)} faults, {found.put_off} put off; {found.errors} errors of clients")
    if found.verdict:
        click.echo(f"{found.verdict.acknowledged} acknowledged, {found.verdict.unknown} unknown; {found.reads} reads")
    outages = Table("fault", "times", "no post, ms", "no read, ms")
    for name, outage_ms in found.outage_ms.items():
        times = sum(event.fault == name for event in found.events)
        outages.add_row(name, str(times), f"{outage_ms:.0f}", f"{found.read_outage_ms[name]:.0f}")
    levels = Table("part", "measure", "minutes since its start", "before", "after", "ratio", "")
    for one in found.growths:
        figures = (f"{one.minutes:.1f}", f"{one.before:.1f}", f"{one.after:.1f}", f"{one.ratio:.2f}")
        levels.add_row(one.part, one.what, *figures, "leaks" if one.leaks else "")
    Console(width=110).print(outages, levels)


if __name__ == "__main__":
    process.entry("soak", main)()
