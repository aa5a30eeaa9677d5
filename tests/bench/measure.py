"""`python -m tests.bench.measure`: repeats measurements of docs/measurements.md, on its own clusters."""

import asyncio
import http.client
import json
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import psutil

from common import ids
from common.hostport import split
from common.protocol.replication import Record
from nodes.replication.core.effects import Range
from nodes.storage.sqlite import open_journal
from scripts.client import transfer
from scripts.client.connection import HttpClient, client
from scripts.client.writers import Writers
from scripts.launcher.cluster import Cluster
from tests.bench.load.wrk import echo, medians, processes_of, with_cpu, wrk
from tests.support.clusters import fill, running_cluster

BEFORE_S, AFTER_S = 2.0, 4.0  # of load before and after a kill


@click.group()
def main() -> None:
    """Measure, and print one line per run and the medians."""


@main.command()
@click.option("--kill", "victims", default="1,2", show_default=True, help="Logging nodes to kill at the same time.")
@click.option("--runs", default=20, show_default=True, help="Number of clusters.")
def gap(victims: str, runs: int) -> None:
    """Kill nodes under the load of 4 clients; print errors, losses, and the longest time without an acknowledgement."""
    gaps, outages = [], []
    for _ in range(runs):
        with a_cluster() as cluster, Writers(cluster.settings.facade.address, 4, "w") as writers:
            writers.wait_for(1_000_000, timeout_s=BEFORE_S)
            killed_at = time.monotonic()
            cluster.kill(map(int, victims.split(",")))
            writers.wait_for(1_000_000, timeout_s=AFTER_S)
            writers.stop()
            with client(cluster.settings.facade.address) as reader:
                read = reader.read()
            lost = {text for _, text in writers.acknowledged} - set(read)
            gaps.append(writers.longest_gap_ms(killed_at))
            outages.append(writers.outage_ms(killed_at))
            click.echo(
                f"acknowledged {len(writers.acknowledged)} errors {len(writers.failures)} lost {len(lost)} "
                f"doubled {len(read) - len(set(read))} outage {outages[-1]:.0f} gap {gaps[-1]:.0f} ms"
            )
    for name, found in (("outage (no client acknowledged)", outages), ("gap (of any one client)", gaps)):
        click.echo(f"{name}: {', '.join(f'{value:.0f}' for value in sorted(found))} ms")


@main.command()
@click.option("--rounds", default=5, show_default=True, help="Rounds, in turn with the bare echo.")
def post(rounds: int) -> None:
    """Post with wrk (Debian's package) over 1, 8 and 32 connections, beside a bare echo; print rates and CPU time."""
    with a_cluster() as cluster, echo() as (bare, bare_address):
        parts, address = processes_of(cluster), cluster.settings.facade.address
        wrk(address, 8, 8)  # so that Java has compiled the code
        for connections in (1, 8, 32):
            found = medians([_one(parts, address, bare, bare_address, connections) for _ in range(rounds)])
            click.echo(f"{connections} connections: " + _shown(found))


@main.command()
@click.option("--messages", default=20_000, show_default=True, help="Messages to store.")
def read(messages: int) -> None:
    """Read the whole log 60 times; print the time, how many reads were complete, and the facade's memory."""
    with a_cluster() as cluster:
        texts = [f"long-{number:07d}-" + "x" * 100 for number in range(messages)]
        fill(cluster, texts)
        (facade,) = processes_of(cluster)["facade"]
        click.echo(f"memory before: {facade.memory_info().rss / 1e6:.0f} MB")
        seconds: list[float] = []
        complete = 0
        with client(cluster.settings.facade.address) as reader:
            for number in range(1, 61):
                complete += _timed(reader, seconds) == texts
                if number % 20 == 0:
                    click.echo(f"memory after {number} reads: {facade.memory_info().rss / 1e6:.0f} MB")
        click.echo(f"{complete} of 60 complete and in order, median {statistics.median(seconds):.2f} s")


@main.command()
@click.option("--runs", default=20, show_default=True, help="Clusters to start.")
def up(runs: int) -> None:
    """Start clusters; print the seconds until all parts are ready."""
    seconds = []
    for _ in range(runs):
        began = time.monotonic()
        with a_cluster():
            seconds.append(time.monotonic() - began)
    click.echo(
        f"up: least {min(seconds):.1f}, median {statistics.median(seconds):.1f}, most {max(seconds):.1f} s, N={runs}"
    )


@main.command()
@click.option("--rounds", default=5, show_default=True, help="Rounds of each batch size.")
def journal(rounds: int) -> None:
    """Commit batches of 1, 32 and 1,000 records of 60 characters to a journal; print messages a second."""

    async def run(folder: Path) -> None:
        async with open_journal(folder / "x.sqlite", "measure", "127.0.0.1:1") as store:
            origin, number = store.opened.incarnation, 0
            for size, count in ((1, 500), (32, 6_400), (1_000, 20_000)):
                rates = []
                for _ in range(rounds):
                    began = time.perf_counter()
                    for _ in range(count // size):
                        records = tuple(Record(number + one, ids.new_id(), "x" * 60) for one in range(1, size + 1))
                        await store.commit([Range(origin, number, number + size, records)], None)
                        number += size
                    rates.append(count / (time.perf_counter() - began))
                click.echo(f"{size} records per commit: median {statistics.median(rates):,.0f} messages/s")

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))


@main.command()
@click.option("--messages", default=500, show_default=True, help="Messages to post, one after the other.")
def third_disk(messages: int) -> None:
    """Print the milliseconds from an acknowledgement until all three disks have the message; 0 if they have it."""
    with a_cluster() as cluster, client(cluster.settings.facade.address) as http_client:
        disks = [sqlite3.connect(path) for path in cluster.folder.glob("journal-*.sqlite")]
        delays = []
        for number in range(messages):
            message_id = http_client.post(f"m{number}").document["uuid"]
            began, query, late = time.perf_counter(), "SELECT 1 FROM messages WHERE id = ?", False
            while not all(disk.execute(query, (message_id,)).fetchone() for disk in disks):
                late = True
            delays.append(1e3 * (time.perf_counter() - began) * late)
        for disk in disks:
            disk.close()
        delays.sort()
        click.echo(
            f"on all disks before the acknowledgement: {delays.count(0)} of {messages}; "
            f"p99 {delays[int(0.99 * messages)]:.1f}, most {delays[-1]:.1f} ms after it"
        )


@main.command()
@click.option("--messages", default=200, show_default=True, help="Messages to post, one after the other.")
def follow(messages: int) -> None:
    """Print the milliseconds from an acknowledgement until a follower gets the message; negative if that is earlier."""
    with a_cluster() as cluster, client(cluster.settings.facade.address) as http_client:
        address = cluster.settings.facade.address
        connection = http.client.HTTPConnection(*split(address), timeout=10)
        connection.request("GET", "/v1/messages", headers={"Accept": "text/event-stream"})
        response, received = connection.getresponse(), dict[str, float]()

        def listen() -> None:
            while len(received) < messages and (line := response.readline()):
                if line.startswith(b"id: "):
                    received[line[4:].strip().decode()] = time.perf_counter()

        listening = threading.Thread(target=listen, daemon=True)
        listening.start()
        posted = {}
        for number in range(messages):
            posted[http_client.post(f"m{number}").document["uuid"]] = time.perf_counter()
            time.sleep(0.02)
        listening.join(10)
        delays = sorted(1e3 * (received[one] - at) for one, at in posted.items() if one in received)
        click.echo(
            f"received {len(delays)} of {messages}: median {statistics.median(delays):.1f}, "
            f"p99 {delays[int(0.99 * len(delays))]:.1f}, most {delays[-1]:.1f} ms"
        )
        connection.close()


@main.command()
@click.option("--messages", default=1_000_000, show_default=True, help="Messages to store.")
@click.option("--runs", default=3, show_default=True, help="How often all nodes are killed and restarted.")
def recovery(messages: int, runs: int) -> None:
    """Kill and restart all nodes with many messages stored; print the seconds until all are ready."""
    with a_cluster() as cluster, transfer.connected(cluster.settings, cluster.path.parent) as nodes:
        now_ms = ids.now_ms()
        lines = (old_line(now_ms - messages + number, number) for number in range(messages))
        began = time.perf_counter()
        click.echo(f"before: {_memory()}")
        transfer.import_lines(nodes, lines, click.echo)
        click.echo(f"imported {messages / (time.perf_counter() - began):,.0f} messages/s, {_memory()}")
        for _ in range(runs):
            cluster.kill([1, 2, 3])
            began = time.perf_counter()
            cluster.start([1, 2, 3], lambda _line: None)
            taken_s = time.perf_counter() - began
            found = cluster.verify()
            click.echo(f"ready after {taken_s:.1f} s, {sorted(one.messages for one in found)} messages")
        began = time.perf_counter()
        count = transfer.export(nodes, lambda _line: None, lambda _line: None)
        click.echo(f"exported {count / (time.perf_counter() - began):,.0f} messages/s, {_memory()}")
        sizes = [path.stat().st_size / 1e6 for path in cluster.folder.glob("journal-*.sqlite")]
        click.echo(f"{count} messages; journals of {', '.join(f'{size:.0f}' for size in sizes)} MB")


def _shown(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in figures.items())


def _memory() -> str:
    return f"memory of this process {psutil.Process().memory_info().rss / 1e6:.0f} MB"


def old_line(time_ms: int, number: int) -> str:
    """A line for an import: a message of about 60 characters, created at `time_ms` (milliseconds since 1970)."""
    message_id = f"{ids.last_id(time_ms)[:14]}7{number % 4096:03x}-bfff-{number:012x}"
    return json.dumps({"id": message_id, "msg": f"message {number} " + "x" * 45})


@contextmanager
def a_cluster(**kwargs: Any) -> Iterator[Cluster]:
    """A cluster on free ports in a temporary folder; `kwargs` go to tests.support.clusters.running_cluster."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running_cluster(Path(folder), engine="hazelcast", **kwargs) as cluster,
    ):
        yield cluster


def _one(
    parts: dict[str, list[psutil.Process]], address: str, echo: psutil.Process, echo_address: str, connections: int
) -> dict[str, float]:
    """One round, first the facade, then the echo: rates a second, latencies and CPU times in milliseconds."""
    ours, used = with_cpu(parts, lambda: wrk(address, connections, 6))
    echoed, echo_used = with_cpu({"echo": [echo]}, lambda: wrk(echo_address, connections, 4))
    return {
        "rate": ours["rate"],
        "echo rate": echoed["rate"],
        "ratio": ours["rate"] / echoed["rate"],
        "errors": ours["errors"],
        "p50": ours["p50"],
        "p99": ours["p99"],
        "cpu": sum(used.values()),
        **{f"cpu {name}": value for name, value in (used | echo_used).items()},
    }


def _timed(reader: HttpClient, seconds: list[float]) -> list[str]:
    """Read the whole log, and append the seconds that it took."""
    began = time.monotonic()
    texts = reader.read()
    seconds.append(time.monotonic() - began)
    return texts


if __name__ == "__main__":
    main()
