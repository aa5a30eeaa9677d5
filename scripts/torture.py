"""`python -m scripts.torture`: faults on real clusters under load, and the checker's verdict on what clients saw."""

import http.client
import itertools
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import psutil
from rich.console import Console
from rich.table import Table

from common import process
from common.errors import FatalError
from scripts import checker, processes
from scripts.checker import Verdict
from scripts.launcher import Cluster
from scripts.ports import write_config
from scripts.prepare import prepare
from scripts.recorder import Recorder
from scripts.traffic import client

BEFORE_S, AFTER_S = 1.5, 3.0  # of load before a fault, and after it has healed
HANG_S = 6.0  # that a paused process stays paused: twice as long as a lease, and as every time-out of Hazelcast
MERGE_S, CONVERGE_S = 6.0, 40.0  # Hazelcast looks every 5 s for another side to merge with
TABLE_COLUMNS = 150  # of the table of all counts
LOOK_S = 0.2  # between two looks at the cluster

Fault = Callable[[Cluster, random.Random], None]


def kill(cluster: Cluster, chance: random.Random) -> None:
    """One node and its member die, and are started again."""
    victim = chance.randint(1, 3)
    cluster.kill([victim])
    time.sleep(AFTER_S)
    cluster.start([victim], _quiet)


def kill2(cluster: Cluster, chance: random.Random) -> None:
    """Two of three die at once, one of them the oldest, and are started again."""
    victims = [1, chance.randint(2, 3)]
    cluster.kill(victims)
    time.sleep(AFTER_S)
    cluster.start(victims, _quiet)


def pause_node(cluster: Cluster, chance: random.Random) -> None:
    """A node hangs, its member does not."""
    _pause([_node(cluster, chance.randint(1, 3))])


def pause_member(cluster: Cluster, chance: random.Random) -> None:
    """A member hangs, its node does not."""
    _pause(_node(cluster, chance.randint(1, 3)).children())


def registry(cluster: Cluster, chance: random.Random) -> None:
    """The registry dies, or hangs and then dies, and is started again."""
    victim = _process(cluster, "registry-1")
    if chance.choice([True, False]):
        _pause([victim])
    victim.kill()
    time.sleep(AFTER_S)
    cluster.up(_quiet)


def stop(cluster: Cluster, chance: random.Random) -> None:
    """A node is told to stop, and is started again."""
    number = chance.randint(1, 3)
    processes.end([_node(cluster, number)], psutil.Process.terminate)
    cluster.start([number], _quiet)


FAULTS: dict[str, Fault] = {
    "kill": kill,
    "kill2": kill2,
    "pause-node": pause_node,
    "pause-member": pause_member,
    "registry": registry,
    "stop": stop,
}


@dataclass(frozen=True, slots=True)
class Result:
    """One fault on one cluster."""

    fault: str
    seed: int
    verdict: Verdict
    reads: int
    client_errors: int
    slowest_s: float
    converged_s: float
    first_error: str


def torture(fault: str, seed: int) -> Result:
    """Bring up a cluster, load it, break it, heal it, and check what clients saw."""
    with tempfile.TemporaryDirectory(prefix="threefold-torture-") as folder:
        write_config(Path(folder) / "config.toml")
        cluster = Cluster(Path(folder) / "config.toml")
        try:
            cluster.up(_quiet)
            recorder = Recorder(cluster.settings.facade.address, "w")
            with recorder.running():
                time.sleep(BEFORE_S)
                FAULTS[fault](cluster, random.Random(seed))
                time.sleep(AFTER_S)
            converged_s = _converge(cluster)
            with client(cluster.settings.facade.address) as reader:
                recorder.read(reader)
        finally:
            cluster.down()
            cluster.close()
    return Result(
        fault=fault,
        seed=seed,
        verdict=checker.check(recorder.writes, recorder.reads),
        reads=len(recorder.reads),
        client_errors=len(recorder.errors),
        slowest_s=recorder.slowest_s,
        converged_s=converged_s,
        first_error=recorder.errors[0] if recorder.errors else "",
    )


@click.command()
@click.option("--faults", default=",".join(FAULTS), show_default=True, help="Which, with commas between.")
@click.option("--seed", default=1, show_default=True, help="Of the first run; the next ones count on.")
@click.option("--runs", default=1, show_default=True, help="Of each fault.")
@click.option("--report", type=click.Path(path_type=Path), help="A JSON file for all results.")
def main(faults: str, seed: int, runs: int, report: Path | None) -> None:
    """Break real clusters under load; exit with 1 when a promise was broken."""
    names = faults.split(",")
    if unknown := [name for name in names if name not in FAULTS]:
        raise click.BadParameter(f"unknown fault {unknown[0]!r}; known: {', '.join(FAULTS)}", param_hint="--faults")
    prepare(click.echo)
    results: list[Result] = []
    failed: list[str] = []
    for name, number in itertools.product(names, range(runs)):
        try:
            results.append(torture(name, seed + number))
            click.echo(_line(results[-1]))
        except (FatalError, OSError, http.client.HTTPException, ValueError) as error:
            failed.append(f"{name} seed {seed + number}: the cluster did not heal: {error}")
            click.echo(failed[-1])
    Console(width=TABLE_COLUMNS).print(_table(results))
    if report:
        report.write_text(json.dumps({"results": [asdict(one) for one in results], "failed": failed}, indent=1))
    broken = sum(result.verdict.violations for result in results)
    sys.exit(f"torture: promises were broken {broken} times, {len(failed)} runs failed" if broken or failed else 0)


_COUNTS = (
    "acknowledged",
    "unknown",
    "lost",
    "stale",
    "phantom",
    "duplicate",
    "altered",
    "disorder",
    "revived",
    "vanished",
)


def _line(result: Result) -> str:
    return (
        f"{result.fault} seed {result.seed}: {result.verdict.acknowledged} acknowledged, {result.verdict.violations} "
        f"violations, {result.client_errors} client errors, outage {1_000 * result.verdict.outage_s:.0f} ms, slowest "
        f"{1_000 * result.slowest_s:.0f} ms {result.first_error[:200]}"
    )


def _table(results: list[Result]) -> Table:
    table = Table("fault", "runs", *_COUNTS, "errors", "outage ms", "slowest ms")
    for fault in dict.fromkeys(result.fault for result in results):
        own = [result for result in results if result.fault == fault]
        counts = [str(sum(getattr(result.verdict, name) for result in own)) for name in _COUNTS]
        errors = sum(result.client_errors for result in own)
        outage = 1_000 * max(result.verdict.outage_s for result in own)
        slowest = 1_000 * max(result.slowest_s for result in own)
        table.add_row(fault, str(len(own)), *counts, str(errors), f"{outage:.0f}", f"{slowest:.0f}")
    return table


def _converge(cluster: Cluster) -> float:
    """Seconds until every node sees every member, and has for MERGE_S: a merge may still be to come after the heal.

    Raises:
        FatalError: not so within CONVERGE_S.
    """
    began = since = time.monotonic()
    while time.monotonic() - since < MERGE_S:
        if time.monotonic() - began > CONVERGE_S:
            raise FatalError(f"the members did not find each other again within {CONVERGE_S} s")
        nodes = [status for status in cluster.status() if status.part.member]
        if any(status.members != len(nodes) for status in nodes):
            since = time.monotonic()
        time.sleep(LOOK_S)
    return since - began


def _pause(victims: list[psutil.Process]) -> None:
    for victim in victims:
        victim.send_signal(signal.SIGSTOP)
    try:
        time.sleep(HANG_S)
    finally:
        for victim in victims:
            victim.send_signal(signal.SIGCONT)


def _node(cluster: Cluster, number: int) -> psutil.Process:
    return _process(cluster, f"logging-{number}")


def _process(cluster: Cluster, name: str) -> psutil.Process:
    (pid,) = [status.pid for status in cluster.status() if status.part.name == name]
    return psutil.Process(pid)


def _quiet(_line: str) -> None:
    """Progress that nobody reads."""


if __name__ == "__main__":
    process.entry("torture", main)()
