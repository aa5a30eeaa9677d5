"""`python -m tests.chaos.history FILE`: checks a history that a torture run saved, one JSON event per line."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from common import process
from common.errors import FatalError
from tests.chaos.checker import FullRead, Write, WriteOutcome, check


def save(path: Path, writes: Sequence[Write], reads: Sequence[FullRead]) -> None:
    """Write a history to a file as events ordered by time (monotonic seconds).

    A write has an `invoke` event and then an `ok`, `fail` or `info` event, each with its text. A read has an `invoke`
    event and then an `ok` event with all texts that it showed.
    """
    events = sorted(_events(writes, reads), key=lambda event: float(event["time"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)


def load(path: Path) -> tuple[list[Write], list[FullRead]]:
    """The history in a file: its writes, and its reads ordered by their end.

    Raises:
        FatalError: the file is not a history, or it has no read.
    """
    invoked: dict[str, dict[str, Any]] = {}
    writes, reads = [], []
    try:
        for event in map(json.loads, path.read_text().splitlines()):
            if event["type"] == "invoke":
                invoked[event["op"]] = event
                continue
            began_s = invoked.pop(event["op"])["time"]
            if event["f"] == "read":
                reads.append(FullRead(event["value"], began_s, event["time"]))
            else:
                rest = (WriteOutcome(event["type"]), tuple(event["ids"]), event["visible"])
                writes.append(Write(event["value"], began_s, event["time"], *rest))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FatalError(f"{path} is not a history: {error!r}") from error
    if not reads:
        raise FatalError(f"{path} has no read, so there is nothing to check")
    return writes, sorted(reads, key=lambda read: read.ended_s)


def _events(writes: Sequence[Write], reads: Sequence[FullRead]) -> Iterator[dict[str, Any]]:
    for number, write in enumerate(writes):
        event = {"op": f"w{number}", "f": "write", "process": write.text.partition("-")[0], "value": write.text}
        yield event | {"type": "invoke", "time": write.began_s}
        yield event | {
            "type": write.outcome.value,
            "time": write.ended_s,
            "ids": list(write.ids),
            "visible": write.visible_s,
        }
    for number, read in enumerate(reads):
        event = {"op": f"r{number}", "f": "read", "process": "reader"}
        yield event | {"type": "invoke", "time": read.began_s}
        yield event | {"type": "ok", "time": read.ended_s, "value": list(read.texts)}


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
def main(path: Path) -> None:
    """Print the verdict on the history in PATH as JSON; exit with 1 if a promise was broken."""
    verdict = check(*load(path))
    click.echo(json.dumps(asdict(verdict), indent=1))
    sys.exit(1 if any(asdict(verdict.broken).values()) else 0)


if __name__ == "__main__":
    process.entry("history", main)()
