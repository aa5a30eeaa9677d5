"""`python -m scripts.tokens add|list|remove`: manages the bearer tokens of clients."""

import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import click
from rich.table import Table

from common import config, process
from common.errors import FatalError
from common.settings.option import config_option
from facade.auth.tokens import TOKEN_BYTES, Scope, Token, digest_of, read
from scripts.client import output

FILE = "tokens.toml"  # beside config.toml, unless [security] tokens names another file


@click.group()
def main() -> None:
    """Add, list and remove tokens. Running facades apply a change within a second."""


@main.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([str(one) for one in Scope]),
    multiple=True,
    required=True,
    help="Scope; may be repeated.",
)
@config_option
def add(name: str, scopes: Sequence[str], path: Path) -> None:
    """Make a token with the given NAME and print it. It cannot be shown again: the file has only its hash.

    Scopes: read (read messages), write (store messages), admin (both, and status, history and metrics of the cluster).
    """
    file, known = _known(path)
    if any(token.name == name for token in known):
        raise FatalError(f"{file} has a token {name} already: use another name, and remove the old token afterwards")
    secret = secrets.token_urlsafe(TOKEN_BYTES)
    write(file, [*known, Token(name, tuple(Scope(scope) for scope in scopes), digest_of(secret))])
    click.echo(secret)
    if not config.load(path, os.environ).security.tokens:
        click.echo(
            f'facades do not check tokens yet: to do so, add to {path}\n\n[security]\ntokens = "{FILE}"', err=True
        )


@main.command("list")
@config_option
def list_tokens(path: Path) -> None:
    """Show the names and scopes of all tokens."""
    table = Table("name", "scopes")
    for token in _known(path)[1]:
        table.add_row(token.name, ", ".join(token.scopes))
    output.plain_console().print(table)


@main.command()
@click.argument("name")
@config_option
def remove(name: str, path: Path) -> None:
    """Remove the token with the given NAME. Facades refuse it within a second."""
    file, known = _known(path)
    rest = [token for token in known if token.name != name]
    if len(rest) == len(known):
        raise FatalError(f"{file} has no token {name}")
    write(file, rest)
    click.echo(f"removed {name}")


def write(file: Path, tokens: Sequence[Token]) -> None:
    """Replace the file atomically, readable by its present owner only; raises FatalError if it cannot be written."""
    draft = file.with_name(f"{file.name}.new")
    tables = [
        f'[[token]]\nname = "{token.name}"\nscopes = {json.dumps(token.scopes)}\nsha256 = "{token.sha256}"\n'
        for token in tokens
    ]
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            opened.write("\n".join(tables))
        read(draft)
        if file.exists():  # keep the owner: the facade must read it even if root writes it
            os.chown(draft, file.stat().st_uid, file.stat().st_gid)
        draft.replace(file)
    except OSError as error:
        raise FatalError(f"cannot write {error.filename}: {error.strerror}") from error


def _known(path: Path) -> tuple[Path, Sequence[Token]]:
    file = path.parent / (config.load(path, os.environ).security.tokens or FILE)
    return file, read(file) if file.exists() else ()


if __name__ == "__main__":
    process.entry("tokens", main)()
