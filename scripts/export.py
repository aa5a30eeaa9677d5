"""`python -m scripts.export > messages.ndjson`: all messages of a cluster, one JSON object per line."""

import os
import sys
from pathlib import Path

import click

from common import config, process
from common.settings.option import config_option
from scripts.client import transfer
from scripts.console import progress


@click.command()
@config_option
def main(path: Path) -> None:
    """Write every message to stdout as NDJSON (id, time, msg), in id order."""
    visible = sys.stderr.isatty() and not sys.stdout.isatty()  # else the messages move on the same screen
    with (
        transfer.connected(config.load(path, os.environ), path.parent) as client,
        progress.of_messages(None, visible=visible) as report,
    ):
        count = transfer.export(client, sys.stdout.write, report.say, progress_messages=report.every)
    click.echo(f"exported {count} messages", err=True)


if __name__ == "__main__":
    process.entry("export", main)()
