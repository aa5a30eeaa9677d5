"""`python -m scripts.cli`: send, read and follow messages, and inspect the cluster, from a terminal or a script."""

import contextlib
import itertools
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.live import Live

from common import VERSION, ids, process
from scripts.client import api, load, output
from scripts.client.api import Api
from scripts.client.facades import ApiError
from scripts.console import progress

DEGRADED = 3  # exit code of `status` and `top` when the cluster is not safe
CHUNK_BYTES = 65_536  # limit of one read from stdin; the complete lines of each read are sent at once
REFRESH_S = 1.0  # between two updates of `top`


class Terminal:
    """What every command needs: a client of the facades, a function that makes another one, and the output format."""

    def __init__(self, new_api: Callable[[], Api], form: output.Format) -> None:
        self.new_api = new_api
        self.api = new_api()
        self.form = form


class Duration(click.ParamType[float]):
    """A time such as `60`, `60s`, `1.5m` or `2h`, in seconds without a unit."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds of a text."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)?", str(value))
        if found is None:
            self.fail(f"{value!r} is not a duration such as 60s or 2m", param, ctx)
        return float(found[1]) * {"ms": 0.001, "m": 60.0, "h": 3_600.0}.get(found[2], 1.0)


def _set_form(context: click.Context, _parameter: click.Parameter, form: output.Format | None) -> None:
    """Let `-o` after a command override that before it."""
    if form and isinstance(context.obj, Terminal):
        context.obj.form = form


def searchable(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a search to a command."""
    contains = click.option("--contains", metavar="TEXT", help="Only messages whose text contains TEXT, in any case.")
    field = click.option(
        "--field", "fields", metavar="NAME=VALUE", multiple=True, help="Only messages with this field; may be repeated."
    )
    return contains(field(command))


form_option = click.option(
    "-o",
    "--output",
    type=click.Choice(output.FORMATS),
    callback=_set_form,
    expose_value=False,
    help="Output format; also before the command.",
)


@click.group()
@click.version_option(VERSION, message="threefold %(version)s")
@click.option(
    "--url",
    "urls",
    multiple=True,
    default=["http://127.0.0.1:5000"],
    show_default=True,
    envvar="FACADE_URL",
    help="URL of a facade, may be given more than once; default from the environment variable FACADE_URL.",
)
@click.option(
    "--ca-file", type=click.Path(path_type=Path), help="Certificates (PEM) that an https URL is checked against."
)
@click.option("--token", default="", envvar="FACADE_TOKEN", help="Bearer token; better: set FACADE_TOKEN instead.")
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(output.FORMATS),
    default="table",
    show_default=True,
    help="Output format.",
)
@click.pass_context
def main(context: click.Context, urls: tuple[str, ...], ca_file: Path | None, token: str, form: output.Format) -> None:
    """Talk to a Threefold cluster over HTTP.

    Exit codes: 0 success, 1 failure, 2 wrong usage, 3 cluster degraded (`status`, `top`).
    """
    context.obj = Terminal(partial(Api, urls, token, ca_file=ca_file), form)
    context.call_on_close(context.obj.api.close)


@main.command()
@click.argument("texts", nargs=-1)
@click.option(
    "--retry",
    "retry_s",
    type=Duration(),
    default=0.0,
    help="Wait so long for a facade that cannot be reached, such as 60s; no message is stored twice.",
)
@click.option("--field", "fields", metavar="NAME=VALUE", multiple=True, help="A field of each message.")
@form_option
@click.pass_obj
def send(terminal: Terminal, texts: tuple[str, ...], retry_s: float, fields: tuple[str, ...]) -> None:
    """Store each of TEXTS as a message. Without TEXTS, store each line of stdin as it arrives."""
    sent, failed, of_each = 0, 0, api.field_options(fields)

    def results() -> Iterator[dict[str, Any]]:
        nonlocal sent, failed
        for batch in api.batched(_arguments(texts)) if texts else _lines_of_stdin():
            for result in terminal.api.send(batch, first=sent, fields=of_each, retry_s=retry_s):
                failed += "message" in result
                yield result
            sent += len(batch)
            if sys.stderr.isatty() and not sys.stdout.isatty():
                click.echo(f"\r{sent} messages", nl=False, err=True)

    output.results(results(), terminal.form)
    if failed:
        raise ApiError(f"{failed} of {sent} messages were not stored")


@main.command()
@click.option("--limit", type=click.IntRange(1, 1_000), default=100, show_default=True, help="Maximum number.")
@click.option("--all", "everything", is_flag=True, help="Print all, without a limit.")
@click.option("--after", help="Only messages after the one with this id.")
@searchable
@click.option("--from", "since", help="Only messages from this time on (RFC 3339).")
@click.option("--to", "until", help="Only messages before this time (RFC 3339).")
@click.option(
    "--order", type=click.Choice(["asc", "desc"]), default="asc", show_default=True, help="Sort order by time."
)
@form_option
@click.pass_obj
def read(terminal: Terminal, /, limit: int, everything: bool, fields: tuple[str, ...], **given: str | None) -> None:
    """Print stored messages, sorted by time."""
    query = api.query(fields, **given)
    page = terminal.api.everything(query) if everything else terminal.api.page(query | {"limit": str(limit)})
    output.messages(page, terminal.form)


@main.command()
@click.option(
    "-n", "count", type=click.IntRange(0, 1_000), default=10, show_default=True, help="Number of newest messages."
)
@click.option("-f", "--follow", is_flag=True, help="Print new messages as they arrive, until Ctrl-C.")
@searchable
@form_option
@click.pass_obj
def tail(terminal: Terminal, count: int, follow: bool, contains: str | None, fields: tuple[str, ...]) -> None:
    """Print the newest messages. With -f, also print new ones as they arrive."""
    search = api.query(fields, contains=contains)
    newest = terminal.api.page({"limit": str(max(count, 1)), "order": "desc"} | search)[::-1]
    begin = newest[0]["id"] if newest else ids.first_id(ids.now_ms())
    shown = newest if count else []
    followed = terminal.api.follow(begin, search, shown=[one["id"] for one in newest]) if follow else iter(())
    # A JSON array would never end.
    form: output.Format = "ndjson" if follow and terminal.form == "json" else terminal.form
    with contextlib.suppress(KeyboardInterrupt):
        output.messages(itertools.chain(shown, followed), form)


@main.command()
@click.argument("message_id", metavar="ID")
@form_option
@click.pass_obj
def get(terminal: Terminal, message_id: str) -> None:
    """Print the message with this ID."""
    output.messages([terminal.api.get(message_id)], terminal.form)


@main.command()
@form_option
@click.pass_obj
def status(terminal: Terminal) -> None:
    """Show the cluster as this facade sees it. Exit with 3 when it is not safe."""
    found = terminal.api.cluster()
    output.cluster(found, terminal.form)
    if sys.stderr.isatty():
        for line in progress.of_catch_up(found["logging_nodes"]):
            click.echo(line, err=True)
    sys.exit(0 if found["safe"] else DEGRADED)


@main.command()
@click.option("--seconds", type=click.FloatRange(0.1), help="Stop after this time instead of at Ctrl-C.")
@form_option
@click.pass_obj
def top(terminal: Terminal, seconds: float | None) -> None:
    """Show load, errors and latency of each node, every second. Exit codes are those of `status`."""
    before, at_s = terminal.api.cluster(), time.monotonic()
    ends_s = at_s + (seconds or float("inf"))  # after the first answer: a table is shown at least once
    pause = threading.Event()
    with contextlib.suppress(KeyboardInterrupt), _updating() as update:
        while (left_s := ends_s - time.monotonic()) > 0:
            pause.wait(min(REFRESH_S, left_s))
            after, now_s = terminal.api.cluster(), time.monotonic()
            output.top(before, after, now_s - at_s, terminal.form, update)
            before, at_s = after, now_s
    sys.exit(0 if before["safe"] else DEGRADED)


@main.command()
@click.option("--clients", type=click.IntRange(1, 128), default=8, show_default=True, help="Concurrent connections.")
@click.option("--seconds", type=click.FloatRange(0.1, 600), default=5.0, show_default=True, help="Duration.")
@click.option(
    "--batch", type=click.IntRange(1, api.BATCH_MESSAGES), default=1, show_default=True, help="Messages per request."
)
@form_option
@click.pass_obj
def bench(terminal: Terminal, clients: int, seconds: float, batch: int) -> None:
    """Store messages of 60 characters as fast as one Python process can. The messages stay in the log."""
    with progress.of_time(seconds, "storing messages"):
        found = load.run(terminal.new_api, clients=clients, seconds=seconds, batch=batch)
    output.record(found, terminal.form)
    if found["errors"]:
        raise ApiError(f"{found['errors']} errors, the first: {found['first error']}")


def _arguments(texts: tuple[str, ...]) -> Iterator[bytes]:
    """The arguments as the shell passed them."""
    return (text.encode("utf-8", "surrogateescape") for text in texts)


def _lines_of_stdin() -> Iterator[list[bytes]]:
    """Yield the lines of stdin that are not blank, in batches of those that have arrived.

    Of a line that is too long for a message only LINE_BYTES are kept, so that it costs no more memory.
    """
    rest = b""
    while chunk := os.read(sys.stdin.fileno(), CHUNK_BYTES):
        *lines, last = chunk.split(b"\n")
        if lines:
            lines[0] = rest + lines[0]
            rest = last
            yield from api.batched(line.removesuffix(b"\r") for line in lines if line.strip())
        elif len(rest) < api.LINE_BYTES:
            rest += last
    if rest.strip():
        yield [rest]


@contextlib.contextmanager
def _updating() -> Iterator[Callable[[Any], None] | None]:
    """A function that replaces the table shown on the terminal; None if stdout is no terminal."""
    if not sys.stdout.isatty():
        yield None
        return
    with Live(console=output.plain_console(), auto_refresh=False) as live:
        yield lambda table: live.update(table, refresh=True)


if __name__ == "__main__":
    process.entry("threefold", main)(prog_name="threefold")
