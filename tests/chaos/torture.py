"""`python -m tests.chaos.torture`: injects faults into real clusters under load and checks what clients saw."""

import itertools
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from common import process
from scripts.client.connection import client
from scripts.client.writers import outage_s
from scripts.prepare import prepare
from tests.chaos import checker, convergence, history
from tests.chaos.checker import Verdict
from tests.chaos.faults import disk, network, processes
from tests.chaos.faults.stage import Stage, on_hosts, on_this_machine
from tests.chaos.recorder import FULL, LoadProfile, Recorder

BEFORE_S = 1.5  # of load before the fault
LOAD_S = 60.0  # limit for reaching the wanted acknowledgements after the heal, and for the last read
LOOK_S = 0.3  # between two checks of the number of writes
TABLE_COLUMNS = 170  # of the printed table, whatever the terminal has
UNREACHABLE = ("facade", "kill3", "wipe")  # no facade or no node runs for a while, so errors are expected


FAULTS: dict[str, Callable[[Stage], None]] = {
    "kill": processes.kill,
    "kill2": processes.kill2,
    "kill3": processes.kill3,
    "wipe": disk.wipe,
    "pause-node": processes.pause_node,
    "pause-member": processes.pause_member,
    "pause-member2": processes.pause_member2,
    "registry": processes.registry,
    "stop": processes.stop,
    "roll": processes.roll,
    "facade": processes.facade,
    "parallel-key": processes.parallel_key,
    "torn": disk.torn,
    "flipped": disk.flipped,
    "full": disk.full,
    "failing": disk.failing,
    "split": network.split,
    "merge-kill": network.merge_kill,
    "apart": network.apart,
    "closed": network.closed,
    "slow-link": network.slow_link,
}
NETWORK_FAULTS = ("split", "merge-kill", "apart", "closed", "slow-link")


@dataclass(frozen=True, slots=True)
class TortureResult:
    """The result of one run: one cluster, and one or more faults one after another.

    Attributes:
        faults: their names in FAULTS, joined by "+".
        verdict: the checker's verdict on the history.
        reads: reads of the whole log.
        differing: nodes that at the end did not hold exactly the messages of the last read.
        missing: reads of one message, or of the newest page, that did not show an acknowledged message.
        errors: failed requests, without those through facades that may fail (`Stage.excused`).
        first_error: the first of these errors, or "".
        outage_ms: by the name of each mark (`Recorder.mark`), the longest time after it in which a facade acknowledged
            nothing; without the facades that a fault cuts off (`Stage.cut_off`).
        page_outage_ms, message_outage_ms: the same for successful reads of the newest page, and of one message.
        slowest_read_ms: by mark, the longest successful read of the whole log.
        converged_s: from the heal until all nodes were in sync again, and stayed so; the longest of all faults.
    """

    faults: str
    seed: int
    verdict: Verdict
    reads: int
    differing: int
    missing: int
    errors: int
    first_error: str
    outage_ms: dict[str, float]
    page_outage_ms: dict[str, float]
    message_outage_ms: dict[str, float]
    slowest_read_ms: dict[str, float]
    converged_s: float

    @property
    def violations(self) -> int:
        """How often promises were broken; an error counts unless a fault is in UNREACHABLE."""
        broken: dict[str, int] = asdict(self.verdict.broken)
        excused = not set(UNREACHABLE).isdisjoint(self.faults.split("+"))
        return sum(broken.values()) + self.differing + self.missing + (0 if excused else self.errors)


def torture(
    faults: str, seed: int, *, hang_s: float, least: int, load: LoadProfile = FULL, folder: Path | None = None
) -> TortureResult:
    """Start a cluster, load it, inject faults, wait for recovery after each, and check what clients saw.

    Args:
        faults: names in FAULTS, joined by "+"; with a network fault among them, the cluster runs on simulated hosts.
        seed: of the random choices.
        hang_s: how long a paused process stays paused.
        least: how many writes to wait for, for at most LOAD_S.
        load: the load on the facade.
        folder: where to save the history; None to discard it.

    Raises:
        FatalError: the cluster did not heal.
    """
    names = faults.split("+")
    staged = on_this_machine if set(NETWORK_FAULTS).isdisjoint(names) else on_hosts
    with (
        tempfile.TemporaryDirectory(prefix="threefold-torture-") as home,
        staged(Path(home), random.Random(seed), hang_s, load) as stage,
    ):
        recorder = stage.recorder
        with recorder.running():
            with ExitStack() as stack:
                for host_recorder in stage.host_recorders:
                    stack.enter_context(host_recorder.running())
                converged_s = max(_inject(stage, name) for name in names)
            visible_s, ends = time.monotonic(), time.monotonic() + LOAD_S
            while len(recorder.writes) < least and time.monotonic() < ends:
                time.sleep(LOOK_S)
        before, ends = len(recorder.reads), time.monotonic() + LOAD_S
        with client(stage.cluster.settings.facade.address) as reader:
            # a read that fails counts as an error; the verdict needs one that succeeds
            while len(recorder.reads) == before and time.monotonic() < ends:
                recorder.read(reader)
        differing = convergence.differing(stage.cluster, set(recorder.reads[-1].texts))
    writes, reads = recorder.history()
    writes = [*writes, *(replace(write, visible_s=visible_s) for one in stage.host_recorders for write in one.writes)]
    counted = [recorder, *(one for one in stage.host_recorders if one not in stage.excused)]
    errors = [error for one in counted for error in one.errors]
    if folder:
        history.save(folder / f"{faults}-{seed}.jsonl", writes, reads)
    return TortureResult(
        faults=faults,
        seed=seed,
        verdict=checker.check(writes, reads),
        reads=len(reads),
        differing=differing,
        missing=len(stage.recorder.missing),
        errors=len(errors),
        first_error=errors[0][:300] if errors else "",
        outage_ms=_outages_ms(stage, Recorder.acknowledged_s),
        page_outage_ms=_outages_ms(stage, lambda one: one.pages),
        message_outage_ms=_outages_ms(stage, lambda one: one.looks),
        slowest_read_ms=_slowest_reads_ms(stage),
        converged_s=converged_s,
    )


def _inject(stage: Stage, name: str) -> float:
    """Inject a fault after BEFORE_S, and wait for recovery; the seconds that this took."""
    time.sleep(BEFORE_S)
    FAULTS[name](stage)
    return convergence.converge(stage.cluster)


@click.command()
@click.option(
    "--faults",
    "wanted",
    default=",".join(FAULTS),
    show_default=True,
    help="Faults to inject, separated by commas: each into its own cluster. Those joined by + share a cluster.",
)
@click.option("--seed", default=1, show_default=True, help="Seed of the first run; each further run adds 1.")
@click.option("--runs", default=1, show_default=True, help="Runs of each fault.")
@click.option("--hang", "hang_s", default=30.0, show_default=True, help="Seconds that a paused process stays paused.")
@click.option("--least", default=10_000, show_default=True, help="Writes to wait for in a run.")
@click.option(
    "--pause",
    "pause_s",
    default=0.0,
    show_default=True,
    help="Least seconds between two posts of a writer, or two reads of a message.",
)
@click.option("--report", type=click.Path(path_type=Path), help="JSON file for all results.")
@click.option("--history", "folder", type=click.Path(path_type=Path), help="Folder for the histories, as JSON lines.")
def main(
    wanted: str,
    seed: int,
    runs: int,
    hang_s: float,
    least: int,
    pause_s: float,
    report: Path | None,
    folder: Path | None,
) -> None:
    """Inject faults into real clusters under load; exit with 1 if a promise was broken or a run failed."""
    if unknown := [name for name in wanted.replace("+", ",").split(",") if name not in FAULTS]:
        raise click.BadParameter(f"unknown fault {unknown[0]!r}; known: {', '.join(FAULTS)}", param_hint="--faults")
    process.exit_on_signal("torture")
    prepare(click.echo)
    load = replace(FULL, write_every_s=pause_s, look_pause_s=max(pause_s, FULL.look_pause_s or 0.0))
    results: list[TortureResult] = []
    failed: list[str] = []
    for faults, run in itertools.product(wanted.split(","), range(runs)):
        try:
            results.append(torture(faults, seed + run, hang_s=hang_s, least=least, load=load, folder=folder))
            click.echo(_line(results[-1]))
        except convergence.FAILURES as error:
            failed.append(f"{faults} seed {seed + run}: {error}")
            click.echo(failed[-1])
        if report:  # after each run, because a long series may be interrupted
            report.write_text(json.dumps({"results": [asdict(one) for one in results], "failed": failed}, indent=1))
    Console(width=TABLE_COLUMNS).print(_table(results))
    broken = sum(result.violations for result in results)
    sys.exit(f"torture: promises were broken {broken} times, {len(failed)} runs failed" if broken or failed else 0)


def _line(result: TortureResult) -> str:
    counts = {**asdict(result.verdict.broken), "differing": result.differing, "missing": result.missing}
    broken = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
    fields = (
        f"{result.verdict.acknowledged} acknowledged",
        f"broken: {broken or 'nothing'}",
        f"{result.errors} errors",
        f"write outage, ms: {_shown(result.outage_ms)}",
        f"outage of the newest page, ms: {_shown(result.page_outage_ms)}",
        f"outage of one message, ms: {_shown(result.message_outage_ms)}",
        f"slowest read of the whole log, ms: {_shown(result.slowest_read_ms)}",
        f"slowest write {result.verdict.latency.most:.0f} ms",
        f"converged {result.converged_s:.1f} s",
    )
    return f"{result.faults} seed {result.seed}: {', '.join(fields)} {result.first_error}"


def _shown(outages_ms: dict[str, float]) -> str:
    return ", ".join(f"{what} {outage:.0f}" for what, outage in outages_ms.items())


def _table(results: list[TortureResult]) -> Table:
    """A table with one column for each value of `faults`: sums of counts, and maxima of times."""
    by_faults: dict[str, list[TortureResult]] = {}
    for result in results:
        by_faults.setdefault(result.faults, []).append(result)
    columns = [_figures(group) for group in by_faults.values()]
    table = Table("", *by_faults)
    for name in dict.fromkeys(name for column in columns for name in column):
        table.add_row(name, *(column.get(name, "") for column in columns))
    return table


def _figures(results: list[TortureResult]) -> dict[str, str]:
    verdicts = [result.verdict for result in results]
    return {
        "runs": str(len(results)),
        "seeds": f"{results[0].seed}-{results[-1].seed}",
        "acknowledged": str(sum(verdict.acknowledged for verdict in verdicts)),
        "unknown": str(sum(verdict.unknown for verdict in verdicts)),
        **{
            name: str(sum(getattr(verdict.broken, name) for verdict in verdicts)) for name in asdict(verdicts[0].broken)
        },
        "differing nodes": str(sum(result.differing for result in results)),
        "missing from a page or a single read": str(sum(result.missing for result in results)),
        "errors": str(sum(result.errors for result in results)),
        **_maxima("write outage", [result.outage_ms for result in results]),
        **_maxima("outage of the newest page", [result.page_outage_ms for result in results]),
        **_maxima("outage of one message", [result.message_outage_ms for result in results]),
        **_maxima("slowest read of the whole log", [result.slowest_read_ms for result in results]),
        "outage of the whole log, with pauses, ms": f"{1_000 * max(one.read_outage_s for one in verdicts):.0f}",
        **{
            f"write {name}, ms": f"{max(getattr(verdict.latency, name) for verdict in verdicts):.0f}"
            for name in asdict(verdicts[0].latency)
        },
        "converged, s": f"{max(result.converged_s for result in results):.1f}",
    }


def _maxima(what: str, measured_ms: Sequence[dict[str, float]]) -> dict[str, str]:
    """One row for each mark: the largest value of all runs."""
    names = dict.fromkeys(itertools.chain(*measured_ms))
    return {f"{what} after {name}, ms": f"{max(one.get(name, 0.0) for one in measured_ms):.0f}" for name in names}


def _outages_ms(stage: Stage, times_of: Callable[[Recorder], Sequence[float]]) -> dict[str, float]:
    """The longest outage between each mark and the next one, by the name of the mark.

    `times_of` returns the moments (monotonic seconds) at which requests of a recorder succeeded.
    """
    watched = [recorder for recorder in (stage.recorder, *stage.host_recorders) if recorder not in stage.cut_off]
    found: dict[str, float] = {}
    for times in filter(None, map(times_of, watched)):
        for at, until, what in _phases(stage):
            found[what] = max(found.get(what, 0.0), 1_000 * outage_s(times, at, until))
    return found


def _slowest_reads_ms(stage: Stage) -> dict[str, float]:
    """The longest read of the whole log that overlaps each phase, by the name of the mark that begins the phase."""
    found: dict[str, float] = {}
    for at, until, what in _phases(stage):
        reads = [read for read in stage.recorder.reads if read.ended_s > at and read.began_s < until]
        slowest_s = max((read.ended_s - read.began_s for read in reads), default=0.0)
        found[what] = max(found.get(what, 0.0), 1_000 * slowest_s)
    return {} if stage.recorder in stage.cut_off else found


def _phases(stage: Stage) -> Iterator[tuple[float, float, str]]:
    """(start, end, name) of each phase, from one mark to the next, in monotonic seconds."""
    for (at, what), (until, _) in itertools.pairwise([*stage.recorder.marks, (float("inf"), "")]):
        yield at, until, what


if __name__ == "__main__":
    process.entry("torture", main)()
