"""`python -m scripts.demo`: starts a cluster, posts messages, kills two nodes under load, checks that none is lost."""

import http.client
import os
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from common import process
from common.errors import FatalError
from common.settings import environment
from scripts.client.connection import CLIENT_ERRORS, HttpClient, client
from scripts.client.writers import Writers
from scripts.launcher.cluster import Cluster
from scripts.launcher.ports import write_config
from scripts.prepare import prepare

MESSAGES = 10
WRITERS = 2  # clients that post while a node is killed
BEFORE_KILL, AFTER_KILL = 200, 400  # messages that the clients post before and after a kill
TRAFFIC_S = 10.0  # longest wait for these messages


@click.command()
@click.option("--keep", is_flag=True, help="Leave the cluster running, and print commands to try.")
@click.option(
    "--engine",
    type=click.Choice(["hazelcast", "embedded"]),
    help="Storage engine; default: hazelcast if it can run on this machine.",
)
def main(keep: bool, engine: str | None) -> None:
    """Demonstrate a cluster on free ports, in a temporary folder. Exit with 1 if a message is lost."""
    console = Console()
    process.exit_on_signal("demo")
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="threefold-demo-"))
        stack.callback(shutil.rmtree, folder)
        write_config(folder / "config.toml")
        environ = environment.without_settings(os.environ)  # they are those of another cluster
        cluster = Cluster(folder / "config.toml", environ=environ, engine=engine or _engine(console))
        stack.callback(cluster.close)
        stack.callback(cluster.down)
        try:
            lost = run_demo(cluster, console)
        except CLIENT_ERRORS as error:
            raise FatalError(f"the cluster did not answer: {error!r}") from error
        if keep and not lost:
            stack.pop_all()
            _print_next_steps(cluster, folder, console)
    sys.exit(f"demo: {lost}" if lost else 0)


def run_demo(cluster: Cluster, console: Console) -> str:
    """Run the demo on a cluster that is down; returns what went wrong, or ""."""
    console.rule("1. start a registry, a messages node, three logging nodes with their members, and a facade")
    began_s = time.monotonic()
    cluster.up(console.print)
    console.print(f"ready in {time.monotonic() - began_s:.1f} s")
    with client(cluster.settings.facade.address) as http_client:
        console.rule(f"2. post {MESSAGES} messages: which node received which?")
        sent = _post(http_client, cluster, console, range(1, MESSAGES + 1))
        console.print(f"read back: {http_client.read()}")
        for step, (number, which) in enumerate([(1, "the first one started"), (3, "a second one")], 3):
            console.rule(f"{step}. {WRITERS} clients post without pause: kill logging node {number}, {which}")
            sent += _kill(cluster, number, console)
        console.rule(f"5. one node is left: post {MESSAGES} more, and read everything")
        sent += _post(http_client, cluster, console, range(MESSAGES + 1, 2 * MESSAGES + 1))
        return _verdict(sent, http_client.read(), console)


def _post(http_client: HttpClient, cluster: Cluster, console: Console, numbers: range) -> list[str]:
    table = Table("message", "logging node", "status")
    nodes = cluster.settings.service_ips.logging_service
    for number in numbers:
        reply = http_client.post(f"msg{number}")
        if reply.status != http.client.OK:
            raise FatalError(f"msg{number} was not stored: {reply.status} {reply.document}")
        address = reply.headers["x-logging-node"]
        table.add_row(f"msg{number}", f"{nodes.index(address) + 1} ({address})", reply.document["status"])
    console.print(table)
    return [f"msg{number}" for number in numbers]


def _kill(cluster: Cluster, number: int, console: Console) -> list[str]:
    """Kill a node under load; returns the acknowledged texts, raises FatalError if a client got an error."""
    with Writers(cluster.settings.facade.address, WRITERS, f"kill{number}") as writers:
        writers.wait_for(BEFORE_KILL, timeout_s=TRAFFIC_S)
        killed_s = time.monotonic()
        cluster.kill([number])
        writers.wait_for(AFTER_KILL, timeout_s=TRAFFIC_S)
    if writers.failures:
        raise FatalError(f"{len(writers.failures)} posts failed, the first: {writers.failures[0]}")
    console.print(
        f"{len(writers.acknowledged)} acknowledged, 0 errors, "
        f"longest gap that a client saw at the kill: [bold]{writers.longest_gap_ms(killed_s):.0f} ms[/bold]"
    )
    return [text for _, text in writers.acknowledged]


def _verdict(sent: list[str], read: list[str], console: Console) -> str:
    lost, doubled = set(sent) - set(read), len(read) - len(set(read))
    if lost or doubled:
        return f"{len(lost)} of {len(sent)} acknowledged messages are lost, {doubled} are doubled"
    console.print(
        f"[green]{len(sent)} acknowledged, {len(read)} read, 0 lost, 0 doubled, with two of three nodes dead[/green]"
    )
    return ""


def _engine(console: Console) -> str:
    """The engine to use: hazelcast, or embedded with a message if Java is not available."""
    try:
        prepare(console.print)
    except FatalError as error:
        reason = f"no Hazelcast cluster here, using the embedded engine instead: {error}"
        console.print(reason, style="yellow", markup=False)
        return "embedded"
    return "hazelcast"


def _print_next_steps(cluster: Cluster, folder: Path, console: Console) -> None:
    url = f"http://{cluster.settings.facade.address}/facade"
    console.rule("the cluster keeps running: commands to try")
    console.print(f"curl {url}", soft_wrap=True)
    console.print(f"""curl -X POST {url} -H 'Content-Type: application/json' -d '{{"msg":"hi"}}'""", soft_wrap=True)
    console.print(f"{sys.executable} -m scripts.cluster --config {folder / 'config.toml'} down", soft_wrap=True)


if __name__ == "__main__":
    process.entry("demo", main)()
