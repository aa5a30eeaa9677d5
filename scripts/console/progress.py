"""Progress of commands that take long: a bar where standard error is a terminal, lines or nothing elsewhere."""

import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar

LINE_MESSAGES = 100_000  # between two lines in a log
SHOWN_MESSAGES = 1_000  # between two updates of a bar
BAR_COLUMNS = 40  # width of a bar


@dataclass(frozen=True, slots=True)
class CopyProgress:
    """Where a copy of messages reports how far it is.

    Attributes:
        say: shows how many messages are done.
        advance: adds the bytes that were read.
        every: the number of messages after which `say` is to be called.
    """

    say: Callable[[str], object]
    advance: Callable[[int], object]
    every: int


@contextmanager
def of_messages(total_bytes: int | None, *, visible: bool, console: Console | None = None) -> Iterator[CopyProgress]:
    """Show how many messages were copied.

    Args:
        total_bytes: the size of the input; None if it is unknown: then the bar only moves.
        visible: show a bar; else write a line after every LINE_MESSAGES messages.
        console: where the bar is drawn; None: standard error.
    """
    if not visible:
        yield CopyProgress(lambda text: click.echo(text, err=True), lambda _bytes: None, LINE_MESSAGES)
        return
    with _bar(SpinnerColumn(), BarColumn(BAR_COLUMNS), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("0 messages", total=total_bytes)
        yield CopyProgress(lambda text: bar.update(task, description=text), partial(bar.advance, task), SHOWN_MESSAGES)


@contextmanager
def of_time(
    seconds: float, text: str, *, visible: bool | None = None, console: Console | None = None
) -> Iterator[None]:
    """Show how much of a known duration is over; `visible` and `console` as above, by default on a terminal only."""
    if not (sys.stderr.isatty() if visible is None else visible):
        yield
        return
    with _bar(_ElapsedColumn(), console=console) as bar:
        bar.add_task(text, total=seconds)
        yield


def of_catch_up(nodes: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A line for each logging node that catches up; `nodes` are those of `/v1/cluster`."""
    most = max((node["messages"] for node in nodes if node["state"] == "ready"), default=0)
    for node in nodes:
        if node["state"] == "joining" and most:
            yield f"{node['address']} catches up: it has {node['messages']} of {most} messages"


def size_of(file: IO[str]) -> int | None:
    """The size of a file in bytes; None for a pipe or a terminal."""
    status = os.fstat(file.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


class _ElapsedColumn(ProgressColumn):
    """A bar whose total is a number of seconds."""

    def render(self, task: Task) -> ProgressBar:
        """Draw it at this moment."""
        total_s = task.total or 1.0
        return ProgressBar(total=total_s, completed=min(task.elapsed or 0.0, total_s), width=BAR_COLUMNS)


def _bar(*columns: ProgressColumn, console: Console | None) -> Progress:
    text = TextColumn("{task.description}", markup=False)
    return Progress(text, *columns, console=console or Console(stderr=True), transient=True)
