"""Tests of scripts.keys: the command that makes, lists and removes keys."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from common.errors import FatalError
from common.security.keyring import OPERATOR
from scripts import keys
from scripts.launcher.ports import write_config

NODE = "127.0.0.1:5002"


def run(*arguments: str, config: Path) -> tuple[int, str]:
    """The exit code, and the output or error, of a command of scripts.keys."""
    result = CliRunner().invoke(keys.main, [*arguments, "--config", str(config)])
    return (1, str(result.exception)) if isinstance(result.exception, FatalError) else (result.exit_code, result.output)


def test_all_configured_processes_get_keys(tmp_path: Path) -> None:
    """Each server and the operator get a pair, whose secret key only its owner may read; a second run keeps them."""
    write_config(tmp_path / "config.toml")
    code, output = run("make", config=tmp_path / "config.toml")
    folder = tmp_path / "keys"

    assert (0, 7, 7) == (code, len(list(folder.glob("*.pub"))), output.count("made "))
    assert {0o600} == {file.stat().st_mode & 0o777 for file in folder.glob("*.key")}
    assert 0o700 == folder.stat().st_mode & 0o777
    assert 'keys = "keys"' in output
    assert 7 == run("make", config=tmp_path / "config.toml")[1].count("kept ")
    assert 7 == run("list", config=tmp_path / "config.toml")[1].count("yes")


def test_a_key_that_looks_like_markup_is_listed_as_it_is(tmp_path: Path) -> None:
    """The alphabet of keys has brackets and slashes."""
    write_config(tmp_path / "config.toml")
    assert 0 == run("make", OPERATOR, config=tmp_path / "config.toml")[0]
    (tmp_path / "keys" / f"{OPERATOR}.pub").write_text("ab[/x]cd[red]:smile:\n")

    code, output = run("list", config=tmp_path / "config.toml")
    assert (0, True) == (code, "ab[/x]cd[red]:smile:" in output), output


def test_one_key_is_made_replaced_and_removed(tmp_path: Path) -> None:
    """One key is made, replaced and removed by its name; an unknown or invalid name is refused."""
    write_config(tmp_path / "config.toml")
    config, public = tmp_path / "config.toml", tmp_path / "keys" / f"{OPERATOR}.pub"
    assert 0 == run("make", OPERATOR, config=config)[0]
    before = public.read_text()

    assert 0 == run("make", "--replace", OPERATOR, config=config)[0]
    assert before != public.read_text()
    assert 0 == run("remove", OPERATOR, config=config)[0]
    assert not public.exists()
    assert "there is no public key of" in run("remove", OPERATOR, config=config)[1]
    assert "host:port" in run("make", "../../etc/x", config=config)[1]
    assert "0.0.0.0:5002 names no single process" in run("make", "0.0.0.0:5002", config=config)[1]


def test_a_secret_key_on_another_host_is_not_replaced(tmp_path: Path) -> None:
    """If there is only the public key of a process, its secret key is on the host of that process."""
    write_config(tmp_path / "config.toml")
    assert 0 == run("make", NODE, config=tmp_path / "config.toml")[0]
    (tmp_path / "keys" / f"{NODE}.key").unlink()

    assert ".pub and no .key (it belongs only on its own host)" in run("make", NODE, config=tmp_path / "config.toml")[1]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The error names the file."""
    (tmp_path / "file").write_text("")

    with pytest.raises(FatalError, match=os.fspath(tmp_path / "file")):
        keys.write_pair(tmp_path / "file", NODE)
