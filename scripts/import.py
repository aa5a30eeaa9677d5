"""`python -m scripts.import < messages.ndjson`: what scripts.export wrote, into a cluster; may be done again."""

import sys
from pathlib import Path

import click

from common import config, process
from scripts.client import transfer


@click.command()
@click.option("--config", "path", type=click.Path(path_type=Path), default=config.DEFAULT_PATH, help="Configuration.")
def main(path: Path) -> None:
    """Read NDJSON (id, time, msg) and store each message under its id; what is there already stays as it is."""
    with transfer.connected(path) as client:
        count = transfer.load(client, sys.stdin, lambda line: click.echo(line, err=True))
    click.echo(f"imported {count} messages", err=True)


if __name__ == "__main__":
    process.entry("import", main)()
