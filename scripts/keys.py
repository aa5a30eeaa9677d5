"""`python -m scripts.keys make|list|remove`: manages the key pairs that authenticate processes (CURVE)."""

import os
from collections.abc import Iterable
from pathlib import Path

import click
from rich.table import Table

from common import config, hostport, process
from common.errors import FatalError
from common.rpc.zmq import curve
from common.security.keyring import OPERATOR, PUBLIC, SECRET
from common.settings.option import config_option
from scripts.client import output

FOLDER = "keys"  # beside config.toml, unless [security] keys names another folder


@click.group()
def main() -> None:
    """Make, list and remove keys. Running processes apply a change within a second.

    A NAME is the host:port at which a process listens, or `operator` for commands.
    """


@main.command()
@click.argument("names", nargs=-1)
@click.option("--replace", is_flag=True, help="Replace existing keys, too; then restart those processes.")
@config_option
def make(names: tuple[str, ...], replace: bool, path: Path) -> None:
    """Make key pairs for NAMES. Without NAMES, for the operator and all processes in the configuration.

    Copy all `.pub` files to each host, but only the `.key` files of its own processes.
    """
    settings = config.load(path, os.environ)
    folder = _folder(settings, path)
    for name in map(_checked, names or all_names(settings)):
        host = name.rpartition(":")[0]
        if host in hostport.EVERYWHERE and host != hostport.split(settings.facade.address)[0]:
            raise FatalError(f"{name} names no single process: give the address at which others reach it")
        made = write_pair(folder, name, replace=replace)
        secret = SECRET if (folder / f"{name}{SECRET}").exists() else f"no {SECRET} (it belongs only on its own host)"
        click.echo(f"{'made' if made else 'kept'} {folder / name}{PUBLIC} and {secret}")
    if not settings.security.keys:
        click.echo(f'these keys are not used yet; to use them, add to {path}\n\n[security]\nkeys = "{FOLDER}"')


@main.command("list")
@config_option
def list_keys(path: Path) -> None:
    """Show all names with their public keys."""
    folder = _folder(config.load(path, os.environ), path)
    table = Table("name", "public key", "secret key here")
    for file in sorted(folder.glob(f"*{PUBLIC}")):
        name = file.name.removesuffix(PUBLIC)
        table.add_row(name, file.read_text().strip(), "yes" if (folder / f"{name}{SECRET}").exists() else "no")
    output.plain_console().print(table)


@main.command()
@click.argument("names", nargs=-1, required=True)
@config_option
def remove(names: tuple[str, ...], path: Path) -> None:
    """Remove the public keys of NAMES from this host. Its processes then refuse those of NAMES."""
    folder = _folder(config.load(path, os.environ), path)
    if missing := [name for name in names if not (folder / f"{_checked(name)}{PUBLIC}").exists()]:
        raise FatalError(f"there is no public key of {missing[0]} in {folder}")
    for name in names:
        (folder / f"{name}{PUBLIC}").unlink()
        click.echo(f"removed {folder / name}{PUBLIC}")


def write_pair(folder: Path, name: str, *, replace: bool = False) -> bool:
    """Write a new key pair, the secret key readable by its owner only; False if one exists and `replace` is not set.

    Raises:
        FatalError: a file cannot be written.
    """
    public_file, secret_file = folder / f"{name}{PUBLIC}", folder / f"{name}{SECRET}"
    if public_file.exists() and not replace:
        return False
    public, secret = curve.key_pair()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        secret_file.unlink(missing_ok=True)  # an existing file would keep its permissions
        with os.fdopen(os.open(secret_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{secret}\n")
        draft = public_file.with_suffix(".new")
        draft.write_text(f"{public}\n")
        draft.replace(public_file)  # atomic for concurrent readers
    except OSError as error:
        raise FatalError(f"cannot write {error.filename}: {error.strerror}") from error
    return True


def _folder(settings: config.Config, path: Path) -> Path:
    return path.parent / (settings.security.keys or FOLDER)


def all_names(settings: config.Config) -> Iterable[str]:
    """The names in a configuration: all listening processes, and the operator."""
    services = settings.service_ips
    return (
        *settings.registry.addresses,
        *services.messages_service,
        *services.logging_service,
        settings.facade.address,
        OPERATOR,
    )


def _checked(name: str) -> str:
    if name != OPERATOR and not hostport.ADDRESS.fullmatch(name):
        raise FatalError(f"{name[:80]} is not the name of a process: use host:port, or {OPERATOR}")
    return name


if __name__ == "__main__":
    process.entry("keys", main)()
