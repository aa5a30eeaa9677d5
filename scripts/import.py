"""`python -m scripts.import < messages.ndjson`: stores an export in a cluster; may be repeated."""

import sys
from pathlib import Path

import click

from common import config, process
from scripts.client import transfer


@click.command()
@click.option(
    "--config", "path", type=click.Path(path_type=Path), default=config.DEFAULT_PATH, help="Configuration file."
)
def main(path: Path) -> None:
    """Read NDJSON (id, time, msg) from stdin and store each message under its id; existing messages stay unchanged."""
    with transfer.connected(config.load(path), path.parent) as client:
        count = transfer.import_lines(client, sys.stdin, lambda line: click.echo(line, err=True))
    click.echo(f"imported {count} messages", err=True)


if __name__ == "__main__":
    process.entry("import", main)()
