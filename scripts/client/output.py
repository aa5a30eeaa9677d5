"""The output of `scripts.cli` (tables, JSON, one JSON object per line), and the console of the other commands."""

import json
import sys
from collections.abc import Callable, Iterable
from typing import Any, Literal

import click
from rich.console import Console
from rich.table import Table

from common.process import printable

Format = Literal["table", "json", "ndjson"]
FORMATS: tuple[Format, ...] = ("table", "json", "ndjson")

_NODE_COLUMNS = ("address", "state", "in_sync", "term", "served", "errors", "p50_ms", "p99_ms")


def messages(found: Iterable[dict[str, Any]], form: Format) -> None:
    """Print messages as they arrive; as a JSON array, only after the last one."""
    _each(found, form, _message)


def _message(one: dict[str, Any]) -> None:
    """Print a message; a terminal must not carry out the commands that its text may have."""
    fields = "".join(f"  {name}={_bare(value)}" for name, value in one.get("fields", {}).items())
    time, fields = (_dim(text) for text in (one["time"], printable(fields, sys.stdout)))
    click.echo(f"{time}  {printable(one['msg'], sys.stdout)}{fields}", color=True)  # else click removes them in a pipe


def _dim(text: str) -> str:
    return click.style(text, dim=True) if text and sys.stdout.isatty() else text


def _bare(value: str | float) -> str:
    """The value of a field: as JSON, but a text of one word without quotes."""
    return value if isinstance(value, str) and value.isprintable() and " " not in value else json.dumps(value)


def results(found: Iterable[dict[str, Any]], form: Format) -> None:
    """Print the results of messages that were sent."""
    _each(found, form, _result)


def _result(one: dict[str, Any]) -> None:
    if "message" in one:
        reason = printable(one["message"], sys.stderr)
        click.echo(f"message {one['index'] + 1} is not stored: {reason}", err=True)
    else:
        click.echo(one["id"])


def _each(found: Iterable[dict[str, Any]], form: Format, row: Callable[[dict[str, Any]], None]) -> None:
    if form == "json":
        _document(list(found))
    else:
        for one in found:
            (_document if form == "ndjson" else row)(one)


def cluster(found: dict[str, Any], form: Format) -> None:
    """Print whether the cluster is safe, and a row for each node."""
    if form != "table":
        _document(found)
        return
    click.secho(f"{'safe' if found['safe'] else 'NOT SAFE'}: {found['reason']}", fg="green" if found["safe"] else "red")
    rows(_NODE_COLUMNS, [_cells(node, _NODE_COLUMNS) for node in found["logging_nodes"]])


def _cells(node: dict[str, Any], columns: Iterable[str]) -> list[str]:
    """The values of a row as text; for a list, its length."""
    values = (node[column] for column in columns)
    return ["" if value is None else str(len(value) if isinstance(value, list) else value) for value in values]


def top(
    before: dict[str, Any], after: dict[str, Any], seconds: float, form: Format, update: Callable[[Table], None] | None
) -> None:
    """Print the cluster with requests per second; replaces the previous table through `update` if it is set."""
    served = {node["address"]: node["served"] for node in before["logging_nodes"]}
    nodes = [
        {**node, "rate": round((node["served"] - served.get(node["address"], 0)) / seconds, 1)}
        for node in after["logging_nodes"]
    ]
    if form != "table":
        _document({**after, "logging_nodes": nodes})
        return
    columns = ("address", "state", "rate", *_NODE_COLUMNS[2:])
    cells = [_cells(node, columns) for node in nodes]
    if update:
        update(_table(columns, cells, title=f"{'safe' if after['safe'] else 'NOT SAFE'}: {after['reason']}"))
    else:
        rows(columns, cells)


def record(found: dict[str, Any], form: Format) -> None:
    """Print names and values."""
    if form == "table":
        rows(("what", "value"), [[name, str(value)] for name, value in found.items()])
    else:
        _document(found)


def plain_console() -> Console:
    """A console that prints texts as they are: a key or an error may contain what rich takes for markup, as `[/x]`."""
    return Console(markup=False, emoji=False)


def rows(columns: Iterable[str], cells: list[list[str]]) -> None:
    """Print a table: drawn on a terminal, separated by tabs elsewhere."""
    if sys.stdout.isatty():
        plain_console().print(_table(columns, cells))
    else:
        for line in (columns, *cells):
            click.echo("\t".join(line))


def _table(columns: Iterable[str], cells: list[list[str]], title: str | None = None) -> Table:
    table = Table(*columns, title=title)
    for line in cells:
        table.add_row(*line)
    return table


def _document(found: object) -> None:
    click.echo(json.dumps(found, ensure_ascii=sys.stdout.isatty()))  # JSON escapes C0 itself, and else no C1
