"""`python -m scripts.cluster up|status|kill N|start N|down`: a whole cluster on this machine."""

import sys
import time
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from common import config, process
from common.errors import FatalError
from scripts.launcher.cluster import Cluster
from scripts.prepare import prepare

TABLE_COLUMNS = 110  # that the table of `status` takes at most with addresses on one machine

_numbers = click.argument("numbers", type=int, nargs=-1, required=True)


@click.group()
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=config.DEFAULT_PATH,
    envvar="THREEFOLD_CONFIG",
    help="Configuration; also from the environment as THREEFOLD_CONFIG.",
)
@click.option("--engine", type=click.Choice(["hazelcast", "embedded"]), help="Instead of [storage] engine.")
@click.pass_context
def main(context: click.Context, path: Path, engine: str | None) -> None:
    """Run a cluster on this machine: the registry, the messages node, the logging nodes, the facade."""
    context.obj = Cluster(path, engine=engine)
    context.call_on_close(context.obj.close)


@main.command()
@click.pass_obj
def up(cluster: Cluster) -> None:
    """Start what does not run; return when everything is ready."""
    began = time.monotonic()
    if any(part.member for part in cluster.parts):
        prepare(click.echo)
    cluster.up(click.echo)
    click.echo(f"ready in {time.monotonic() - began:.1f} s: http://{cluster.settings.facade.address}/facade")


@main.command()
@click.pass_obj
def status(cluster: Cluster) -> None:
    """Show each process; exit with 1 when one is not ready."""
    table = Table("process", "address", "pid", "state", "Hazelcast member", "members seen")
    found = cluster.status()
    for row in found:
        state = row.state or ("silent" if row.pid else "down")
        seen = str(row.members) if row.part.member else ""
        table.add_row(row.part.name, row.part.address, str(row.pid or ""), state, row.part.member or "", seen)
    console = Console()
    console.width = max(console.width, TABLE_COLUMNS)  # addresses are never cut, also not in a file
    console.print(table)
    sys.exit(0 if all(row.ready for row in found) else 1)


@main.command()
@_numbers
@click.pass_obj
def kill(cluster: Cluster, numbers: tuple[int, ...]) -> None:
    """SIGKILL logging nodes by number, with their Hazelcast members, all at once."""
    pids = cluster.kill(numbers)
    click.echo(f"killed logging node {', '.join(map(str, numbers))} (processes {', '.join(map(str, pids))})")


@main.command()
@_numbers
@click.pass_obj
def start(cluster: Cluster, numbers: tuple[int, ...]) -> None:
    """Start logging nodes by number; return when they are ready."""
    cluster.start(numbers, click.echo)


@main.command()
@click.argument("numbers", type=int, nargs=-1)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def wipe(cluster: Cluster, numbers: tuple[int, ...], yes: bool) -> None:
    """Remove the journals of logging nodes by number, of all without a number; they must be down."""
    what = f"of logging node {', '.join(map(str, numbers))}" if numbers else "that this cluster has"
    if not yes:
        click.confirm(f"Remove every message {what} on this machine?", abort=True)
    removed = cluster.wipe(numbers)
    click.echo(f"removed {len(removed)} files")


@main.command()
@click.pass_obj
def verify(cluster: Cluster) -> None:
    """Compare the journals of the nodes, and repair them; exit with 1 when they still differ."""
    table = Table("logging node", "messages", "digest", "repaired")
    found = cluster.verify()
    for row in found:
        table.add_row(row.node, str(row.messages), f"{row.digest:x}", str(row.repaired))
    Console().print(table)
    click.echo("what is newer than half a minute is not compared: it may be on its way")
    if len({(row.messages, row.digest) for row in found}) > 1:
        raise FatalError("the journals differ: run it again; when that does not help, wipe the node that is wrong")


@main.command()
@click.pass_obj
def down(cluster: Cluster) -> None:
    """Stop everything: what is accepted is answered first."""
    cluster.down()
    click.echo("the cluster is down")


if __name__ == "__main__":
    process.entry("cluster", main)()
