"""`python -m tests.bench.overload`: measures a facade under more load than it can serve; draws docs/overload.svg.

First a closed loop of 32 connections finds the peak rate. Then open loop load is offered at multiples of the peak,
while health and status are requested on separate connections.
"""

import contextlib
import http.client
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
import psutil
import uvloop
from rich.console import Console
from rich.table import Table

from common.hostport import split
from common.telemetry.quantiles import quantile
from scripts.launcher.cluster import Cluster
from scripts.launcher.processes import ROOT
from scripts.prepare import prepare
from tests.bench.load.open_loop import LoadResult, closed_loop, open_loop
from tests.chaos.report.plot import Panel, Series, plot
from tests.support.clusters import running_cluster

WARM_S = 20.0  # of load before the first measurement, so that Java has compiled the code
REST_S = 3.0  # between two loads
PEAK_CONNECTIONS = 32
ON_TIME_S = 0.05  # a 503 within this time counts as on time
PROBE_S = 0.1  # between two probes of health or status
PROBED = ("/livez", "/readyz", "/v1/cluster")
LIGHT_RATE, LIGHT_S = 20.0, 4.0  # posts a second for some seconds, to see when latency is normal again
BACK_S = 0.5  # length of the windows in which latency is compared


@dataclass(slots=True)
class Step:
    """The figures of one load; rates are per second.

    Attributes:
        factor: the offered rate divided by the peak.
        offered: rate of requests that were due.
        stored, refused, other: rates of answers with 200, of answers with 503, and of the rest.
        unsent: rate of requests that found no free connection.
        stored_p99_ms, refused_p50_ms, refused_p99_ms: latency quantiles of stored and of refused requests.
        refused_on_time: share of the 503 answers that took at most ON_TIME_S.
        probes, probes_failed: number of probes, and of probes without a 200.
        probe_p99_ms: latency quantile of the probes.
        facade_cpu: cores that the facade used.
        back_s: seconds after the load until latency was normal again.
    """

    factor: float
    offered: float
    stored: float
    refused: float
    other: float
    unsent: float
    stored_p99_ms: float
    refused_p50_ms: float
    refused_p99_ms: float
    refused_on_time: float
    probes: int
    probes_failed: int
    probe_p99_ms: float
    facade_cpu: float
    back_s: float


@dataclass(slots=True)
class Probes:
    """Requests health and status repeatedly, each time on a new connection."""

    address: str
    took_s: list[float] = field(default_factory=list)
    failed: int = 0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Probe while the block runs."""
        stop = threading.Event()
        thread = threading.Thread(target=self._run, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _run(self, stop: threading.Event) -> None:
        turn = 0
        while not stop.wait(PROBE_S):
            began_s = time.perf_counter()
            connection = http.client.HTTPConnection(*split(self.address), timeout=5.0)
            try:
                connection.request("GET", PROBED[turn % len(PROBED)])
                good = connection.getresponse().status == http.client.OK
            except (OSError, http.client.HTTPException):
                good = False
            connection.close()
            turn += 1
            self.failed += not good
            self.took_s.append(time.perf_counter() - began_s)


@click.command()
@click.option("--seconds", default=10.0, show_default=True, help="Seconds of each load.")
@click.option("--factors", default="0.5,0.8,1,1.5,2,3,5", show_default=True, help="Loads, in multiples of the peak.")
@click.option("--report", type=click.Path(path_type=Path), help="JSON file for the figures.")
@click.option("--plot", "picture", type=click.Path(path_type=Path), default=ROOT / "docs" / "overload.svg")
def main(seconds: float, factors: str, report: Path | None, picture: Path) -> None:
    """Measure a real cluster under increasing load, print a table and draw the plot."""
    prepare(click.echo)
    with (
        tempfile.TemporaryDirectory(prefix="threefold-overload-") as folder,
        running_cluster(Path(folder), engine="hazelcast") as cluster,
    ):
        address = cluster.settings.facade.address
        uvloop.run(closed_loop(address, connections=PEAK_CONNECTIONS, seconds=WARM_S))
        peak = uvloop.run(closed_loop(address, connections=PEAK_CONNECTIONS, seconds=seconds)).count(200) / seconds
        click.echo(f"peak {peak:.0f} posts a second at {PEAK_CONNECTIONS} connections")
        steps = [_step(cluster, float(factor), peak, seconds) for factor in factors.split(",")]
        after = uvloop.run(closed_loop(address, connections=PEAK_CONNECTIONS, seconds=seconds)).count(200) / seconds
        click.echo(f"peak afterwards {after:.0f}")
    Console(width=190).print(_table(steps))
    if report:
        report.write_text(json.dumps({"peak": peak, "after": after, "steps": [_plain(one) for one in steps]}, indent=1))
    picture.write_text(_picture(steps, peak))


def _step(cluster: Cluster, factor: float, peak: float, seconds: float) -> Step:
    """Offer `factor` times the peak for some seconds, and measure."""
    address, facade = cluster.settings.facade.address, _facade(cluster)
    normal_p99_ms = _light(address).quantile_ms(200, 0.99)
    probes, before_s = Probes(address), _cpu_s(facade)
    with probes.running():
        load = uvloop.run(open_loop(address, rate=factor * peak, seconds=seconds))
    spent_s = _cpu_s(facade) - before_s
    back_s = _back_s(_light(address), 2 * normal_p99_ms)
    time.sleep(REST_S)
    stored, refused = load.count(200), load.count(503)
    return Step(
        factor=factor,
        offered=factor * peak,
        stored=stored / seconds,
        refused=refused / seconds,
        other=(len(load.shots) - stored - refused) / seconds,
        unsent=load.unsent / seconds,
        stored_p99_ms=load.quantile_ms(200, 0.99),
        refused_p50_ms=load.quantile_ms(503, 0.5),
        refused_p99_ms=load.quantile_ms(503, 0.99),
        refused_on_time=_on_time(load),
        probes=len(probes.took_s),
        probes_failed=probes.failed,
        probe_p99_ms=1_000 * quantile(sorted(probes.took_s), 0.99),
        facade_cpu=spent_s / seconds,
        back_s=back_s,
    )


def _on_time(load: LoadResult) -> float:
    """The share of the 503 answers that took at most ON_TIME_S."""
    took_s = load.took_s(503)
    return sum(one <= ON_TIME_S for one in took_s) / max(1, len(took_s))


def _light(address: str) -> LoadResult:
    """The result of a light load, which does not disturb the facade."""
    return uvloop.run(open_loop(address, rate=LIGHT_RATE, seconds=LIGHT_S))


def _back_s(load: LoadResult, good_ms: float) -> float:
    """Seconds from the start of a light load to its first window in which no answer took longer than `good_ms`."""
    if not load.shots:
        return LIGHT_S
    began_s = min(shot.due_s for shot in load.shots)
    slow = [shot.due_s - began_s for shot in load.shots if 1_000 * (shot.ended_s - shot.due_s) > good_ms]
    windows = {int(one / BACK_S) for one in slow}
    back = next(window for window in range(len(windows) + 1) if window not in windows)
    return back * BACK_S


def _facade(cluster: Cluster) -> psutil.Process:
    (pid,) = [status.pid for status in cluster.status() if status.part.name == "facade"]
    return psutil.Process(pid)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _plain(step: Step) -> dict[str, float]:
    return {name: round(getattr(step, name), 2) for name in Step.__dataclass_fields__}


def _table(steps: list[Step]) -> Table:
    table = Table(*Step.__dataclass_fields__)
    for step in steps:
        table.add_row(*(f"{value:g}" for value in _plain(step).values()))
    return table


def _picture(steps: list[Step], peak: float) -> str:
    def series(name: str, field_name: str) -> Series:
        return Series(name, [[(step.factor, getattr(step, field_name)) for step in steps]])

    panels = [
        Panel(
            "requests a second",
            [
                *(series("stored", "stored"), series("503", "refused")),
                *(series("no answer", "other"), series("not sent", "unsent")),
            ],
        ),
        Panel("p99 latency, ms", [series("stored", "stored_p99_ms"), series("503", "refused_p99_ms")]),
        Panel("p99 latency, ms", [series("health, status", "probe_p99_ms")]),
    ]
    title = f"Overload of a facade: offered load in multiples of its peak of {peak:,.0f} posts a second"
    return plot(title, panels, (), max(step.factor for step in steps), axis="offered load in multiples of the peak")


if __name__ == "__main__":
    main()
