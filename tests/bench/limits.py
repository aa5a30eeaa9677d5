"""`python -m tests.bench.limits`: measures an idle cluster, a flood of large messages, and the catch-up of a node."""

import contextlib
import json
import threading
import time
from collections.abc import Sequence

import click
import psutil

from common import ids
from scripts.client import transfer
from scripts.client.connection import CLIENT_ERRORS, HttpClient, client
from scripts.launcher.cluster import VERIFIED_AGE_MS, Cluster
from scripts.launcher.processes import gone
from tests.bench.load.wrk import cpu_s, processes_of
from tests.bench.measure import a_cluster, old_line
from tests.chaos.recorder import ONE_SLOW_WRITER, Recorder

SETTLE_S = 30.0  # after a start, until Java has compiled the code
TEXT_BYTES = 61_440  # 60 KiB, below the limit of 64
BATCH = 160  # messages, 9.4 MiB: below the limit of a body
CLIENTS = 4
LOOK_S = 0.5  # pause after a refused batch, and between two measurements of memory


@click.group()
def main() -> None:
    """Measure, and print one line per figure."""


@main.command()
@click.option("--seconds", default=60.0, show_default=True, help="Length of one measurement.")
@click.option("--runs", default=3, show_default=True, help="Number of measurements.")
def idle(seconds: float, runs: int) -> None:
    """Print the CPU cores that each part of a cluster uses without any requests."""
    with a_cluster() as cluster:
        parts = processes_of(cluster)
        time.sleep(SETTLE_S)
        for _ in range(runs):
            before = {name: cpu_s(found) for name, found in parts.items()}
            time.sleep(seconds)
            cores = {name: (cpu_s(found) - before[name]) / seconds for name, found in parts.items()}
            shown = ", ".join(f"{name} {taken:.4f}" for name, taken in cores.items())
            click.echo(f"{sum(map(len, parts.values()))} processes take {sum(cores.values()):.4f} cores: {shown}")


@main.command()
@click.option("--seconds", default=120.0, show_default=True, help="How long batches are sent at full speed.")
def large(seconds: float) -> None:
    """Post batches of 60 KiB messages; print the memory, processes that ended, and what each node stored."""
    with a_cluster() as cluster:
        parts = processes_of(cluster)
        counts, ends_s = [0] * CLIENTS, time.monotonic() + seconds
        senders = [threading.Thread(target=_send, args=(cluster, counts, number, ends_s)) for number in range(CLIENTS)]
        for sender in senders:
            sender.start()
        most = _watched(parts, senders)
        click.echo(f"{sum(counts)} messages acknowledged in {seconds:.0f} s, {sum(counts) / seconds:.0f} a second")
        click.echo("most memory, MB: " + ", ".join(f"{name} {size / 1e6:.0f}" for name, size in most.items()))
        ended = [name for name, processes in parts.items() for process in processes if gone(process)]
        click.echo(f"processes that ended: {ended or 'none'}")
        time.sleep(VERIFIED_AGE_MS / 1_000)
        click.echo(f"on the disks of the nodes: {[one.messages for one in cluster.verify()]}")


@main.command()
@click.option("--messages", default=1_000_000, show_default=True, help="Messages to store.")
def catch_up(messages: int) -> None:
    """Restart a node whose disk was lost; print the time of its catch-up, its memory, and the posts meanwhile."""
    with a_cluster() as cluster, transfer.connected(cluster.settings, cluster.path.parent) as nodes:
        now_ms = ids.now_ms()
        transfer.import_lines(
            nodes, (old_line(now_ms - messages + number, number) for number in range(messages)), click.echo
        )
        cluster.kill([3])
        cluster.wipe([3])
        recorder = Recorder(cluster.settings.facade.address, load=ONE_SLOW_WRITER)
        with recorder.running():
            began_s = time.monotonic()
            cluster.start([3], lambda _line: None)
            taken_s = time.monotonic() - began_s
        click.echo(f"ready after {taken_s:.1f} s; {[one.messages for one in cluster.verify()]} messages")
        sizes = [process.memory_info().rss / 1e6 for process in processes_of(cluster)["logging"]]
        click.echo(f"memory of the nodes afterwards, MB: {', '.join(f'{size:.0f}' for size in sizes)}")
        slowest_s = max(write.ended_s - write.began_s for write in recorder.writes)
        click.echo(
            f"meanwhile {len(recorder.writes)} posts, {len(recorder.errors)} errors, slowest {1e3 * slowest_s:.0f} ms"
        )


def _send(cluster: Cluster, counts: list[int], number: int, ends_s: float) -> None:
    """Post one batch after the other until `ends_s`; after a refusal or an error, pause for LOOK_S."""
    headers = {"Content-Type": "application/x-ndjson"}
    body = "\n".join([json.dumps({"msg": "x" * TEXT_BYTES})] * BATCH).encode()
    with client(cluster.settings.facade.address) as http_client:
        while time.monotonic() < ends_s:
            counts[number] += _stored(http_client, body, headers)


def _stored(http_client: HttpClient, body: bytes, headers: dict[str, str]) -> int:
    """Post one batch, and print what went wrong; how many of its messages were stored."""
    try:
        reply = http_client.call("POST", "/v1/messages", body, headers)
    except CLIENT_ERRORS as error:
        click.echo(f"no answer: {error!r}")
        time.sleep(LOOK_S)
        return 0
    stored = sum("id" in one and "message" not in one for one in reply.document.get("results", ()))
    if stored < BATCH:
        click.echo(f"{stored} of {BATCH} stored: {reply.status} {str(reply.document)[:200]}")
        time.sleep(LOOK_S)
    return stored


def _watched(parts: dict[str, list[psutil.Process]], senders: Sequence[threading.Thread]) -> dict[str, int]:
    """The peak memory (bytes) of one process of each part while the senders run."""
    most = dict.fromkeys(parts, 0)
    while any(sender.is_alive() for sender in senders):
        for name, processes in parts.items():
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):  # it has ended; `large` reports that
                    most[name] = max(most[name], process.memory_info().rss)
        time.sleep(LOOK_S)
    return most


if __name__ == "__main__":
    main()
