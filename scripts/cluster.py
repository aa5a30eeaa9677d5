"""`python -m scripts.cluster up|status|kill N|start N|wipe N|verify|down`: runs a cluster on this machine."""

import sys
import time
from pathlib import Path

import click
from rich.table import Table

from common import process
from common.errors import FatalError
from common.settings.option import config_option
from scripts.client import output
from scripts.launcher.cluster import Cluster
from scripts.prepare import prepare

TABLE_COLUMNS = 110  # maximum width of the table of `status` for addresses on one machine

_numbers = click.argument("numbers", type=int, nargs=-1, required=True)


@click.group()
@config_option
@click.option("--engine", type=click.Choice(["hazelcast", "embedded"]), help="Overrides [storage] engine.")
@click.pass_context
def main(context: click.Context, path: Path, engine: str | None) -> None:
    """Run a cluster on this machine: registry, messages node, logging nodes and facade."""
    context.obj = Cluster(path, engine=engine)
    context.call_on_close(context.obj.close)


@main.command()
@click.pass_obj
def up(cluster: Cluster) -> None:
    """Start all processes that are not running. Return when the cluster is ready."""
    began_s = time.monotonic()
    if any(part.member for part in cluster.parts):
        prepare(click.echo)
    cluster.up(click.echo)
    click.echo(f"ready in {time.monotonic() - began_s:.1f} s: http://{cluster.settings.facade.address}/facade")


@main.command()
@click.pass_obj
def status(cluster: Cluster) -> None:
    """Show all processes. Exit with 1 if one of them is not ready."""
    table = Table("process", "address", "pid", "state", "Hazelcast member", "members seen")
    found = cluster.status()
    for row in found:
        state = row.state or ("no answer" if row.pid else "down")
        seen = str(row.members) if row.part.member else ""
        table.add_row(row.part.name, row.part.address, str(row.pid or ""), state, row.part.member or "", seen)
    console = output.plain_console()
    console.width = max(console.width, TABLE_COLUMNS)  # so that addresses are never truncated, even in a file
    console.print(table)
    sys.exit(0 if all(row.ready for row in found) else 1)


@main.command()
@_numbers
@click.pass_obj
def kill(cluster: Cluster, numbers: tuple[int, ...]) -> None:
    """Kill logging nodes NUMBERS and their members at once (SIGKILL)."""
    pids = cluster.kill(numbers)
    click.echo(f"killed logging node {', '.join(map(str, numbers))} (processes {', '.join(map(str, pids))})")


@main.command()
@_numbers
@click.pass_obj
def start(cluster: Cluster, numbers: tuple[int, ...]) -> None:
    """Start logging nodes NUMBERS, and wait until they are ready."""
    cluster.start(numbers, click.echo)


@main.command()
@click.argument("numbers", type=int, nargs=-1)
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@click.pass_obj
def wipe(cluster: Cluster, numbers: tuple[int, ...], yes: bool) -> None:
    """Remove the journals of NUMBERS, or of all logging nodes. The nodes must be down."""
    whose = f"of logging node {', '.join(map(str, numbers))}" if numbers else "of this cluster"
    if not yes:
        click.confirm(f"Remove every message {whose} on this machine?", abort=True)
    removed = cluster.wipe(numbers)
    click.echo(f"removed {len(removed)} file{'' if len(removed) == 1 else 's'}")


@main.command()
@click.pass_obj
def verify(cluster: Cluster) -> None:
    """Compare and repair the journals of all nodes. Exit with 1 if they still differ."""
    table = Table("logging node", "messages", "digest", "repaired")
    found = cluster.verify()
    for row in found:
        table.add_row(row.node, str(row.messages), f"{row.digest:x}", str(row.repaired))
    output.plain_console().print(table)
    click.echo("messages of the last 30 s are not compared: they may still be in flight")
    if len({(row.messages, row.digest) for row in found}) > 1:
        raise FatalError("the journals differ: run `verify` again while no records with old times arrive")


@main.command()
@click.pass_obj
def down(cluster: Cluster) -> None:
    """Stop all processes. Accepted requests are answered first."""
    cluster.down()
    click.echo("the cluster is down")


if __name__ == "__main__":
    process.entry("cluster", main)()
