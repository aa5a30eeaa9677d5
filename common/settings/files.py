"""The configuration file: where a program looks for it, and its content."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import tomli

from common.errors import ConfigError

NAME = "config.toml"
PACKAGED = Path(__file__).with_name("default.toml")  # a link to config.toml in a checkout, a copy of it in a wheel
CHECKOUT = Path(__file__).parents[2] / NAME


def default_path(environ: Mapping[str, str], *, checkout: Path = CHECKOUT, folder: Path = Path()) -> Path:
    """The configuration file of a program that was given none.

    That is the file of the checkout from which it runs; else the one in the current folder; else the one in the state
    folder, which need not exist (`readable`).

    Args:
        environ: the environment variables.
        checkout: the file in a checkout of the project; an installed package has none.
        folder: the current folder.
    """
    existing = (path for path in (checkout, folder / NAME) if path.is_file())
    return next(existing, state_folder(environ) / NAME)


def state_folder(environ: Mapping[str, str]) -> Path:
    """The folder for the data of a cluster that was installed and never configured.

    An account without a home directory, as in some containers, uses one below the folder for temporary files.
    """
    if (configured := Path(environ.get("XDG_STATE_HOME", ""))).is_absolute():  # others are ignored (XDG base folders)
        return configured / "threefold"
    try:
        return Path.home() / ".local" / "state" / "threefold"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"threefold-state-{os.getuid()}"


def readable(path: Path, environ: Mapping[str, str]) -> Path:
    """The file to read for a configuration at `path`: PACKAGED if `path` is in the state folder and does not exist."""
    missing = path.resolve() == (state_folder(environ) / NAME).resolve() and not path.exists()
    return PACKAGED if missing else path


def decoded(path: Path) -> dict[str, object]:
    """The tables in a file.

    Raises:
        ConfigError: the file is missing, unreadable or not TOML.
    """
    try:
        return tomli.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"cannot read the configuration {path}: {reason}") from error
    except tomli.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
