"""Tests of scripts.tokens: the command that adds, lists and removes tokens."""

import os
import stat
from pathlib import Path

from click.testing import CliRunner

from common.errors import FatalError
from facade.auth.tokens import Scope, Token, Tokens, digest_of
from scripts import tokens
from scripts.launcher.ports import write_config


def run(*arguments: str, config: Path) -> tuple[int, str]:
    """The exit code, and the output or error, of a command of scripts.tokens."""
    result = CliRunner().invoke(tokens.main, [*arguments, "--config", str(config)])
    return (1, str(result.exception)) if isinstance(result.exception, FatalError) else (result.exit_code, result.stdout)


def test_tokens_are_added_listed_and_removed(tmp_path: Path) -> None:
    """The token is printed once; the file has only its digest, and only its owner may read it."""
    config, file = tmp_path / "config.toml", tmp_path / "tokens.toml"
    write_config(config)
    code, secret = run("add", "ci", "--scope", "read", "--scope", "write", config=config)

    assert 0 == code
    assert 0o600 == file.stat().st_mode & 0o777
    assert secret.strip() not in file.read_text()
    found = Tokens(file).find(secret.strip())
    assert ("ci", (Scope.READ, Scope.WRITE)) == (getattr(found, "name", ""), getattr(found, "scopes", ()))
    assert "read, write" in run("list", config=config)[1]
    assert "has a token ci already" in run("add", "ci", "--scope", "read", config=config)[1]
    assert 0 == run("remove", "ci", config=config)[0]
    assert "has no token ci" in run("remove", "ci", config=config)[1]
    assert Tokens(file).find(secret.strip()) is None


def test_an_invalid_name_is_refused(tmp_path: Path) -> None:
    """The error says so, and no file is written."""
    config = tmp_path / "config.toml"
    write_config(config)

    assert "is no file of tokens" in run("add", 'a"b', "--scope", "read", config=config)[1]
    assert not (tmp_path / "tokens.toml").exists()


def test_a_rewritten_file_keeps_its_owner(tmp_path: Path) -> None:
    """A facade with a user of its own must be able to read a file that root has changed."""
    file, owner = tmp_path / "tokens.toml", 1_234 if os.geteuid() == 0 else os.geteuid()
    tokens.write(file, [])
    os.chown(file, owner, -1)
    tokens.write(file, [Token("new", (Scope.READ,), digest_of("new"))])

    assert (owner, 0o600) == (file.stat().st_uid, stat.S_IMODE(file.stat().st_mode))
