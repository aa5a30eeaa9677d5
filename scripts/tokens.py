"""`python -m scripts.tokens add|list|remove`: the bearer tokens of clients."""

import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from common import config, process
from common.errors import FatalError
from facade.auth.tokens import TOKEN_BYTES, Scope, Token, digest_of, read

FILE = "tokens.toml"  # beside config.toml, when [security] tokens does not say where

_config = click.option(
    "--config", "path", type=click.Path(path_type=Path), default=config.DEFAULT_PATH, help="Configuration."
)


@click.group()
def main() -> None:
    """Add, list and remove tokens; facades that run notice it within a second."""


@main.command()
@click.argument("name")
@click.option(
    "--scope", "scopes", type=click.Choice([str(one) for one in Scope]), multiple=True, required=True, help="Allowed."
)
@_config
def add(name: str, scopes: Sequence[str], path: Path) -> None:
    """Make a token and print it, this once: the file has only its hash.

    read: messages. write: store messages. admin: both, and the status, history and metrics of the cluster.
    """
    file, known = _known(path)
    if any(token.name == name for token in known):
        raise FatalError(f"{file} has a token {name} already: give it another name, and remove that one afterwards")
    secret = secrets.token_urlsafe(TOKEN_BYTES)
    write(file, [*known, Token(name, tuple(Scope(scope) for scope in scopes), digest_of(secret))])
    click.echo(secret)
    if not config.load(path).security.tokens:
        click.echo(f'no facade asks for it yet: add to {path}\n\n[security]\ntokens = "{FILE}"', err=True)


@main.command("list")
@_config
def list_tokens(path: Path) -> None:
    """Show names and scopes."""
    table = Table("name", "scopes")
    for token in _known(path)[1]:
        table.add_row(token.name, ", ".join(token.scopes))
    Console().print(table)


@main.command()
@click.argument("name")
@_config
def remove(name: str, path: Path) -> None:
    """Remove a token: who sends it is refused from the next request on."""
    file, known = _known(path)
    rest = [token for token in known if token.name != name]
    if len(rest) == len(known):
        raise FatalError(f"{file} has no token {name}")
    write(file, rest)
    click.echo(f"removed {name}")


def write(file: Path, tokens: Sequence[Token]) -> None:
    """Write the file anew, whole or not at all, for the owner alone that it has; raises FatalError."""
    draft = file.with_name(f"{file.name}.new")
    tables = [
        f'[[token]]\nname = "{token.name}"\nscopes = {json.dumps(token.scopes)}\nsha256 = "{token.sha256}"\n'
        for token in tokens
    ]
    try:
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            opened.write("\n".join(tables))
        read(draft)
        if file.exists():  # written by root, it is still for the user of the facade
            os.chown(draft, file.stat().st_uid, file.stat().st_gid)
        draft.replace(file)
    except OSError as error:
        raise FatalError(f"cannot write {error.filename}: {error.strerror}") from error


def _known(path: Path) -> tuple[Path, Sequence[Token]]:
    file = path.parent / (config.load(path).security.tokens or FILE)
    return file, read(file) if file.exists() else ()


if __name__ == "__main__":
    process.entry("tokens", main)()
