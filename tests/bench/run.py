"""`make bench`: benchmarks the service beside a bare echo server, and writes docs/bench.json and docs/bench.svg.

Each figure is the median of several rounds, which alternate between the compared servers. Needs wrk (Debian's package).
"""

import json
import platform
import statistics
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

import click
import psutil

from common import ids
from scripts.client import transfer
from scripts.client.api import Api
from scripts.client.connection import client
from scripts.client.facades import ApiError
from scripts.client.writers import Writers
from scripts.launcher.cluster import Cluster
from scripts.launcher.processes import ROOT
from tests.bench.chart import chart
from tests.bench.load.wrk import echo, medians, processes_of, with_cpu, wrk
from tests.bench.measure import a_cluster, old_line

RESULT, PLOT = ROOT / "docs" / "bench.json", ROOT / "docs" / "bench.svg"
CONNECTIONS = (1, 8, 32, 128)
SIZES = (1_000, 10_000, 100_000, 1_000_000)
KILL_SIZES = (1_000, 100_000, 1_000_000)
SECONDS = 5  # length of one round
WARM_SECONDS = 30  # of load before the first round, while Java compiles with up to half of a core
FOLLOWED = 200  # messages whose delivery to a follower is timed
BEFORE_S, AFTER_S = 2.0, 4.0  # of load before and after a kill
NOISE = 0.15  # smaller differences from the last result are not printed


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Rounds of each load.")
@click.option("--largest", default=SIZES[-1], show_default=True, help="Most messages to store.")
@click.option("--kills", default=3, show_default=True, help="Double kills for each number of stored messages.")
@click.option("--keep/--no-keep", default=True, help="Write docs/bench.json and docs/bench.svg.")
def main(rounds: int, largest: int, kills: int, keep: bool) -> None:
    """Run all benchmarks, and compare with the last result that was kept."""
    found: dict[str, dict[str, float]] = {}

    def note(name: str, figures: dict[str, float]) -> None:
        found[name] = {key: round(value, 3) for key, value in figures.items()}
        click.echo(f"{name}: " + ", ".join(f"{key} {value:g}" for key, value in found[name].items()))

    with a_cluster() as cluster, echo() as (bare, bare_address):
        _posts(cluster, bare, bare_address, rounds, note)
        _batches(cluster, rounds, note)
        note("follow, ms from the answer to the event", _followed(cluster))
    with a_cluster() as cluster:
        _pages(cluster, rounds, largest, note)
    for size in (size for size in KILL_SIZES if size <= largest):
        note(f"two kills with {size} stored", _gap(size, kills))
    before = json.loads(RESULT.read_text())["figures"] if RESULT.exists() else {}
    _compare(before, found)
    if keep:
        about = {"date": datetime.now(UTC).date().isoformat(), "rounds": rounds, "python": platform.python_version()}
        RESULT.write_text(json.dumps({**about, "figures": found}, indent=1) + "\n")
        rates = {name: figures["rate"] for name, figures in found.items() if "rate" in figures}
        PLOT.write_text(chart("requests a second", rates))


def _posts(cluster: Cluster, bare: psutil.Process, bare_address: str, rounds: int, note: Any) -> None:
    """Benchmark posts of one message, in turn with the bare echo."""
    address = cluster.settings.facade.address
    wrk(address, 32, WARM_SECONDS)
    for connections in CONNECTIONS:
        ours, echoed = [], []
        for _ in range(rounds):
            result, used = with_cpu(processes_of(cluster), partial(wrk, address, connections, SECONDS))
            ours.append({**result, "cpu ms": sum(used.values()), **{f"cpu {name}": one for name, one in used.items()}})
            result, used = with_cpu({"echo": [bare]}, partial(wrk, bare_address, connections, SECONDS))
            echoed.append({**result, "cpu ms": used["echo"]})
        posted, baseline = medians(ours), medians(echoed)
        note(f"POST, {connections} connections", {**posted, "share of the echo": posted["rate"] / baseline["rate"]})
        note(f"bare echo, {connections} connections", baseline)


def _batches(cluster: Cluster, rounds: int, note: Any) -> None:
    """Benchmark posts of 100 messages."""
    address = cluster.settings.facade.address
    for connections in (1, 8):
        taken = [
            with_cpu(
                processes_of(cluster),
                partial(wrk, address, connections, SECONDS, "batch"),
            )
            for _ in range(rounds)
        ]
        found = medians([{**result, "cpu ms": sum(used.values())} for result, used in taken])
        note(f"POST of 100, {connections} connections", {**found, "messages a second": 100 * found["rate"]})


def _pages(cluster: Cluster, rounds: int, largest: int, note: Any) -> None:
    """Benchmark pages of 100 from random positions while the log grows, and the CPU time and memory of posts."""
    address, stored, cursors = cluster.settings.facade.address, 0, list[str]()
    wrk(address, 8, WARM_SECONDS)
    now_ms = ids.now_ms()
    for size in (size for size in SIZES if size <= largest):
        lines = [old_line(now_ms - largest + number, number) for number in range(stored, size)]
        with transfer.connected(cluster.settings, cluster.path.parent) as nodes:
            transfer.import_lines(nodes, lines, click.echo)
        stored = size
        cursors += [json.loads(line)["id"] for line in lines[:: max(1, len(lines) // 50)]]
        pages = [wrk(address, 1, SECONDS, "page", *cursors) for _ in range(rounds)]
        note(f"page of 100, {size} stored", medians(pages))
        taken = [with_cpu(processes_of(cluster), partial(wrk, address, 8, SECONDS)) for _ in range(rounds)]
        posts = medians([{"cpu ms": sum(used.values()), "rate": result["rate"]} for result, used in taken])
        memory = {f"MB {name}": _megabytes(parts) for name, parts in processes_of(cluster).items()}
        note(f"POST, 8 connections, {size} stored", {**posts, **memory})


def _followed(cluster: Cluster) -> dict[str, float]:
    """Milliseconds from the answer of a POST until a follower gets the message; negative if it gets it earlier."""
    address, received = cluster.settings.facade.address, dict[str, float]()
    api, ready = Api(address), threading.Event()

    def follow() -> None:
        with suppress(ApiError):  # the cluster stops at the end
            for message in api.follow(""):
                received[message["id"]] = time.perf_counter()
                ready.set()

    threading.Thread(target=follow, daemon=True).start()
    answered: dict[str, float] = {}
    with client(address) as http_client:
        while not ready.wait(0.1):
            http_client.post("is it there yet?")
        for number in range(FOLLOWED):
            message_id = http_client.post(f"followed {number}").document["uuid"]
            answered[message_id] = time.perf_counter()
            time.sleep(0.01)
    ends = time.monotonic() + 5.0
    while answered.keys() - received.keys() and time.monotonic() < ends:
        time.sleep(0.05)
    delays = sorted(1e3 * (received[one] - at) for one, at in answered.items() if one in received)
    return {
        "p50": statistics.median(delays),
        "p99": delays[int(0.99 * len(delays))],
        "missing": len(answered) - len(delays),
    }


def _gap(size: int, kills: int) -> dict[str, float]:
    """The longest time without an acknowledgement after two nodes are killed, with `size` messages stored."""
    outages = []
    for _ in range(kills):
        with a_cluster() as cluster:
            now_ms = ids.now_ms()
            with transfer.connected(cluster.settings, cluster.path.parent) as nodes:
                transfer.import_lines(
                    nodes, (old_line(now_ms - size + number, number) for number in range(size)), click.echo
                )
            with Writers(cluster.settings.facade.address, 4, "w") as writers:
                writers.wait_for(1_000_000, timeout_s=BEFORE_S)
                killed_at = time.monotonic()
                cluster.kill([1, 2])
                writers.wait_for(1_000_000, timeout_s=AFTER_S)
                writers.stop()
            outages.append(writers.outage_ms(killed_at))
            click.echo(f"{len(writers.acknowledged)} acknowledged, {len(writers.failures)} errors")
    return {"median ms": statistics.median(outages), "most ms": max(outages), "kills": kills}


def _megabytes(processes: list[psutil.Process]) -> float:
    return float(sum(process.memory_info().rss for process in processes)) / 1e6


def _compare(before: dict[str, dict[str, float]], found: dict[str, dict[str, float]]) -> None:
    """Print the figures that differ from the last result by more than NOISE."""
    for name, figures in found.items():
        for key, value in figures.items():
            old = before.get(name, {}).get(key)
            if old and abs(value / old - 1) > NOISE:
                click.echo(f"differs: {name}, {key}: {old:g} -> {value:g} ({value / old:.2f} times)")


if __name__ == "__main__":
    main()
