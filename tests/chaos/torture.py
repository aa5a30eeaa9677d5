"""`python -m tests.chaos.torture`: faults on real clusters under load, and a check of what clients saw."""

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
from tests.chaos.recorder import Recorder

BEFORE_S = 1.5  # of load before a fault
LOAD_S = 60.0  # at most, for the acknowledgements that are wanted
LOOK_S = 0.3  # between two looks at what is acknowledged
TABLE_COLUMNS = 170
UNREACHABLE = ("facade", "kill3", "wipe")  # no facade, or no node, is there for a while: errors are right


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
ONE_NODE = ("apart", "closed", "slow-link")
NETWORK_FAULTS = ("split", "merge-kill", *ONE_NODE)


@dataclass(frozen=True, slots=True)
class Result:
    """One fault on one cluster.

    Attributes:
        differing: nodes that at the end had not exactly what was read.
        missing: times that an acknowledged message was not shown by a read of it, or of the newest page.
        outage_ms: the longest time in which a facade acknowledged nothing after each thing that was done, by its name;
            without the facades that the fault cuts off (`Stage.cut_off`).
        page_outage_ms, message_outage_ms: the same without a read of the newest page, and of one message.
        slowest_read_ms: the longest successful read of everything after each thing that was done.
        converged_s: from the heal until every node saw every member again, for good.
    """

    fault: str
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
        """Promises that were broken; an error is one, too, unless the fault takes everything away."""
        broken: dict[str, int] = asdict(self.verdict.broken)
        return sum(broken.values()) + self.differing + self.missing + (0 if self.fault in UNREACHABLE else self.errors)


def torture(fault: str, seed: int, *, hang_s: float, least: int, folder: Path | None = None) -> Result:
    """Bring up a cluster, load it, break it, heal it, and check what clients saw.

    Args:
        fault: a name in FAULTS.
        seed: of the chance in it.
        hang_s: that a paused process stays paused.
        least: acknowledgements to wait for, for at most LOAD_S.
        folder: where the history goes, if anywhere.

    Raises:
        FatalError: the cluster did not heal.
    """
    arranged = on_hosts if fault in NETWORK_FAULTS else on_this_machine
    with (
        tempfile.TemporaryDirectory(prefix="threefold-torture-") as home,
        arranged(Path(home), random.Random(seed), hang_s) as stage,
    ):
        recorder = stage.recorder
        with recorder.running():
            with ExitStack() as stack:
                for beside in stage.beside:
                    stack.enter_context(beside.running())
                time.sleep(BEFORE_S)
                FAULTS[fault](stage)
                converged_s = convergence.converge(stage.cluster)
            visible_s, ends = time.monotonic(), time.monotonic() + LOAD_S
            while len(recorder.writes) < least and time.monotonic() < ends:
                time.sleep(LOOK_S)
        before, ends = len(recorder.reads), time.monotonic() + LOAD_S
        with client(stage.cluster.settings.facade.address) as reader:
            while (
                len(recorder.reads) == before and time.monotonic() < ends
            ):  # one that fails is an error, and no verdict
                recorder.read(reader)
        differing = convergence.differing(stage.cluster, set(recorder.reads[-1].texts))
    writes, reads = recorder.history()
    writes = [*writes, *(replace(write, visible_s=visible_s) for beside in stage.beside for write in beside.writes)]
    spared = stage.cut_off if fault in ONE_NODE else ()  # the facade beside the node may fail with it
    errors = [*recorder.errors, *(error for one in stage.beside if one not in spared for error in one.errors)]
    if folder:
        history.save(folder / f"{fault}-{seed}.jsonl", writes, reads)
    return Result(
        fault=fault,
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


@click.command()
@click.option("--faults", "wanted", default=",".join(FAULTS), show_default=True, help="Which, with commas between.")
@click.option("--seed", default=1, show_default=True, help="Of the first run; the next ones count on.")
@click.option("--runs", default=1, show_default=True, help="Of each fault.")
@click.option("--hang", "hang_s", default=30.0, show_default=True, help="Seconds that a paused process stays paused.")
@click.option("--least", default=10_000, show_default=True, help="Acknowledgements to wait for in a run.")
@click.option("--report", type=click.Path(path_type=Path), help="A JSON file for all results.")
@click.option("--history", "folder", type=click.Path(path_type=Path), help="A folder for what clients saw, as JSON.")
def main(
    wanted: str, seed: int, runs: int, hang_s: float, least: int, report: Path | None, folder: Path | None
) -> None:
    """Break real clusters under load; exit with 1 when a promise was broken."""
    names = wanted.split(",")
    if unknown := [name for name in names if name not in FAULTS]:
        raise click.BadParameter(f"unknown fault {unknown[0]!r}; known: {', '.join(FAULTS)}", param_hint="--faults")
    process.exit_on_signal("torture")
    prepare(click.echo)
    results: list[Result] = []
    failed: list[str] = []
    for name, run in itertools.product(names, range(runs)):
        try:
            results.append(torture(name, seed + run, hang_s=hang_s, least=least, folder=folder))
            click.echo(_line(results[-1]))
        except convergence.FAILURES as error:
            failed.append(f"{name} seed {seed + run}: {error}")
            click.echo(failed[-1])
        if report:  # after each run: a long one may be ended
            report.write_text(json.dumps({"results": [asdict(one) for one in results], "failed": failed}, indent=1))
    Console(width=TABLE_COLUMNS).print(_table(results))
    broken = sum(result.violations for result in results)
    sys.exit(f"torture: promises were broken {broken} times, {len(failed)} runs failed" if broken or failed else 0)


def _line(result: Result) -> str:
    counts = {**asdict(result.verdict.broken), "differing": result.differing, "missing": result.missing}
    broken = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
    told = (
        f"{result.verdict.acknowledged} acknowledged",
        f"broken: {broken or 'nothing'}",
        f"{result.errors} errors",
        f"no write for ms: {_shown(result.outage_ms)}",
        f"no read of the newest page for ms: {_shown(result.page_outage_ms)}",
        f"no read of one message for ms: {_shown(result.message_outage_ms)}",
        f"slowest read of everything ms: {_shown(result.slowest_read_ms)}",
        f"slowest {result.verdict.latency.most:.0f} ms",
        f"converged {result.converged_s:.1f} s",
    )
    return f"{result.fault} seed {result.seed}: {', '.join(told)} {result.first_error}"


def _shown(outages_ms: dict[str, float]) -> str:
    return ", ".join(f"{what} {outage:.0f}" for what, outage in outages_ms.items())


def _table(results: list[Result]) -> Table:
    """A column for each fault: sums of counts, and the largest of all times."""
    by_fault: dict[str, list[Result]] = {}
    for result in results:
        by_fault.setdefault(result.fault, []).append(result)
    columns = [_figures(own) for own in by_fault.values()]
    table = Table("", *by_fault)
    for name in dict.fromkeys(name for column in columns for name in column):
        table.add_row(name, *(column.get(name, "") for column in columns))
    return table


def _figures(results: list[Result]) -> dict[str, str]:
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
        "missing in a page, or alone": str(sum(result.missing for result in results)),
        "errors": str(sum(result.errors for result in results)),
        **_most("no write", [result.outage_ms for result in results]),
        **_most("no read of the newest page", [result.page_outage_ms for result in results]),
        **_most("no read of one message", [result.message_outage_ms for result in results]),
        **_most("slowest read of everything", [result.slowest_read_ms for result in results]),
        "no read of everything, with pauses, ms": f"{1_000 * max(one.read_outage_s for one in verdicts):.0f}",
        **{
            f"write {name}, ms": f"{max(getattr(verdict.latency, name) for verdict in verdicts):.0f}"
            for name in asdict(verdicts[0].latency)
        },
        "converged, s": f"{max(result.converged_s for result in results):.1f}",
    }


def _most(what: str, measured_ms: Sequence[dict[str, float]]) -> dict[str, str]:
    """A row for each thing that was done: the largest figure of it."""
    names = dict.fromkeys(itertools.chain(*measured_ms))
    return {f"{what} after {name}, ms": f"{max(one.get(name, 0.0) for one in measured_ms):.0f}" for name in names}


def _outages_ms(stage: Stage, times_of: Callable[[Recorder], Sequence[float]]) -> dict[str, float]:
    """The longest outage between each mark and the next one, by the name of the mark."""
    watched = [recorder for recorder in (stage.recorder, *stage.beside) if recorder not in stage.cut_off]
    found: dict[str, float] = {}
    for times in filter(None, map(times_of, watched)):
        for at, until, what in _phases(stage):
            found[what] = max(found.get(what, 0.0), 1_000 * outage_s(times, at, until))
    return found


def _slowest_reads_ms(stage: Stage) -> dict[str, float]:
    """The longest read of everything that was under way between each mark and the next one, by the name of the mark."""
    found: dict[str, float] = {}
    for at, until, what in _phases(stage):
        reads = [read for read in stage.recorder.reads if read.ended_s > at and read.began_s < until]
        slowest_s = max((read.ended_s - read.began_s for read in reads), default=0.0)
        found[what] = max(found.get(what, 0.0), 1_000 * slowest_s)
    return {} if stage.recorder in stage.cut_off else found


def _phases(stage: Stage) -> Iterator[tuple[float, float, str]]:
    """From each mark to the next one, in monotonic seconds, and what was done at the first."""
    for (at, what), (until, _) in itertools.pairwise([*stage.recorder.marks, (float("inf"), "")]):
        yield at, until, what


if __name__ == "__main__":
    process.entry("torture", main)()
