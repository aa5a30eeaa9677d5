"""`python -m scripts.import < messages.ndjson`: stores an export in a cluster; may be repeated."""

import os
import sys
from pathlib import Path

import click

from common import config, process
from common.settings.option import config_option
from scripts.client import transfer


@click.command()
@config_option
def main(path: Path) -> None:
    """Read NDJSON (id, time, msg) from stdin and store each message under its id; existing messages stay unchanged."""
    with transfer.connected(config.load(path, os.environ), path.parent) as client:
        count = transfer.import_lines(client, sys.stdin, lambda line: click.echo(line, err=True))
    click.echo(f"imported {count} messages", err=True)


if __name__ == "__main__":
    process.entry("import", main)()
