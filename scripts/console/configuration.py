"""`threefold config check|show|init`: the configuration that a program would start with."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import msgspec

from common import config
from common.errors import FatalError
from common.process import printable
from common.settings import environment, files
from common.settings.option import config_option
from facade.auth import tokens
from scripts.client import output


@dataclass(frozen=True, slots=True)
class Origin:
    """The value of a key, and its source.

    Attributes:
        table: the table of config.toml.
        key: the key in it.
        value: the value in use.
        source: `default`, `file:PATH`, or the name of an environment variable.
    """

    table: str
    key: str
    value: object
    source: str


@click.group()
def main() -> None:
    """Check and show the configuration: the file, and the environment that overrides it."""


@main.command()
@config_option
def check(path: Path) -> None:
    """Exit with 0 if programs can start with the configuration, else say why not."""
    settings = config.load(path, os.environ)
    if settings.security.tokens:
        tokens.read(path.parent / settings.security.tokens)
    click.echo(f"the configuration {files.readable(path, os.environ)} is valid")


@main.command()
@config_option
@click.option("-o", "--output", "form", type=click.Choice(output.FORMATS), help="Output format.")
@click.pass_context
def show(context: click.Context, path: Path, form: output.Format | None) -> None:
    """Show each key, its value, and where it comes from."""
    found = list(origins(path, os.environ))
    match form or context.find_root().params.get("form"):
        case "json":
            click.echo(json.dumps([asdict(one) for one in found]))
        case "ndjson":
            click.echo("\n".join(json.dumps(asdict(one)) for one in found))
        case _:
            cells = [
                [f"[{one.table}] {one.key}", json.dumps(one.value), printable(one.source, sys.stdout)] for one in found
            ]
            output.rows(("key", "value", "source"), cells)


@main.command()
@config_option
def init(path: Path) -> None:
    """Write a configuration file to edit, with the defaults, where programs find it."""
    if path.is_file():
        raise FatalError(f"{path} exists already")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(files.PACKAGED.read_text())
    except OSError as error:
        raise FatalError(f"cannot write {path}: {error.strerror}") from error
    click.echo(f"wrote {path}")


def origins(path: Path, environ: Mapping[str, str]) -> Iterator[Origin]:
    """Each key of the configuration with its source.

    Raises:
        ConfigError: as `config.load`.
    """
    loaded = msgspec.to_builtins(config.load(path, environ))
    file = files.readable(path, environ)
    in_file = files.decoded(file)
    variables = {(one.table, one.key): one.variable for one in environment.read(environ, config.Config)}
    for table, keys in loaded.items():
        written = in_file.get(table)
        for key, value in keys.items():
            source = f"file:{file}" if isinstance(written, dict) and key in written else "default"
            yield Origin(table, key, value, variables.get((table, key), source))
