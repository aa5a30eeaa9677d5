"""`python -m scripts.import < messages.ndjson`: stores an export in a cluster; may be repeated."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click

from common import config, process
from common.settings.option import config_option
from scripts.client import transfer
from scripts.console import progress


@click.command()
@config_option
def main(path: Path) -> None:
    """Read NDJSON (id, time, msg) from stdin and store each message under its id; existing messages stay unchanged."""
    visible = sys.stderr.isatty() and not sys.stdin.isatty()
    with (
        transfer.connected(config.load(path, os.environ), path.parent) as client,
        progress.of_messages(progress.size_of(sys.stdin), visible=visible) as report,
    ):
        lines = _counted(sys.stdin, report.advance) if visible else sys.stdin
        count = transfer.import_lines(client, lines, report.say, progress_messages=report.every)
    click.echo(f"imported {count} messages", err=True)


def _counted(lines: Iterable[str], advance: Callable[[int], object]) -> Iterator[str]:
    """The lines; `advance` is called with the size of each in bytes."""
    for line in lines:
        yield line
        advance(len(line.encode(errors="replace")))


if __name__ == "__main__":
    process.entry("import", main)()
