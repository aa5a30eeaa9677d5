"""`python -m tests.bench.keys_cost`: measures the cost of CURVE: rate, p50 and CPU time with and without keys."""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import click
import psutil
import uvloop

from scripts.launcher.cluster import Cluster
from scripts.prepare import prepare
from tests.bench.load.open_loop import LoadResult, closed_loop
from tests.support.clusters import running_cluster

WARM_S = 15.0  # of load before the first measurement, so that Java has compiled the code
CONNECTIONS = (1, 32)


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Rounds of each cluster.")
@click.option("--seconds", default=5.0, show_default=True, help="Seconds of each round.")
def main(rounds: int, seconds: float) -> None:
    """Measure two clusters that run on this machine at the same time."""
    prepare(click.echo)
    with ExitStack() as stack:
        clusters = {}
        for name, keyed in (("without keys", False), ("with keys", True)):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="threefold-keys-")))
            clusters[name] = stack.enter_context(running_cluster(folder, engine="hazelcast", keyed=keyed))
            uvloop.run(closed_loop(clusters[name].settings.facade.address, connections=CONNECTIONS[-1], seconds=WARM_S))
        for connections in CONNECTIONS:
            found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in clusters}
            for _ in range(rounds):
                for name, cluster in clusters.items():
                    found[name].append(_round(cluster, connections, seconds))
            for name, rows in found.items():
                rate, p50_ms, cpu_ms = (median(column) for column in zip(*rows, strict=True))
                figures = f"{rate:.0f} posts a second, p50 {p50_ms:.2f} ms, {cpu_ms:.3f} ms of CPU for each"
                click.echo(f"{connections} connections, {name}: {figures}")


def _round(cluster: Cluster, connections: int, seconds: float) -> tuple[float, float, float]:
    """Posts a second, their median latency (ms), and the CPU time of all processes of the cluster per post (ms)."""
    parts = [psutil.Process(status.pid) for status in cluster.status() if status.pid]
    processes = [one for part in parts for one in (part, *part.children(recursive=True))]
    before_s = sum(map(_cpu_s, processes))
    load: LoadResult = uvloop.run(
        closed_loop(cluster.settings.facade.address, connections=connections, seconds=seconds)
    )
    stored = load.count(200)
    return stored / seconds, load.quantile_ms(200, 0.5), 1_000 * (sum(map(_cpu_s, processes)) - before_s) / stored


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    main()
