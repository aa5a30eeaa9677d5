"""Tests of scripts.console.configuration."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from common.errors import ConfigError, FatalError
from common.settings import files
from scripts.console import configuration
from scripts.launcher.ports import write_config


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration file."""
    write_config(tmp_path / "config.toml", more="[limits]\nqueued = 9\n")
    return tmp_path / "config.toml"


def run(*arguments: str, **environ: str) -> Result:
    """Run a command of the group."""
    return CliRunner().invoke(configuration.main, arguments, env=environ)


def test_a_valid_configuration_is_one_sentence(file: Path) -> None:
    """The exit code is 0."""
    ended = run("check", "--config", str(file))

    assert (0, f"the configuration {file} is valid\n") == (ended.exit_code, ended.output)


def test_an_invalid_configuration_is_the_error_of_a_start(file: Path) -> None:
    """In the file, in the environment, or in the file of tokens, which is read, too."""
    tokens = {"THREEFOLD_SECURITY__TOKENS": "none.toml"}
    ended = [
        run("check", "--config", str(file.with_name("none.toml"))),
        run("check", "--config", str(file), THREEFOLD_LIMITS__QUEUED="0"),
        run("check", "--config", str(file), **tokens),
    ]

    assert [ConfigError] * 3 == [type(one.exception) for one in ended]
    assert str(ended[1].exception).startswith("THREEFOLD_LIMITS__QUEUED is '0': ")
    assert f"cannot read the tokens {file.with_name('none.toml')}" in str(ended[2].exception)


def test_each_key_is_shown_with_its_source(file: Path) -> None:
    """A default, the file, or a variable of the environment."""
    environ = {"THREEFOLD_FACADE__THREADS": "7"}
    ended = run("show", "--config", str(file), "-o", "json", **environ)
    shown: dict[tuple[str, str], Any] = {
        (one["table"], one["key"]): (one["value"], one["source"]) for one in json.loads(ended.output)
    }

    assert (9, f"file:{file}") == shown["limits", "queued"]
    assert (7, "THREEFOLD_FACADE__THREADS") == shown["facade", "threads"]
    assert (1, "default") == shown["facade", "workers"]
    assert (f"threefold-{file.parent.name}", f"file:{file}") == shown["hazelcast", "hazelcast-cluster-name"]


def test_a_table_and_lines_have_the_same_keys(file: Path) -> None:
    """In a pipe, columns are separated by tabs."""
    table = run("show", "--config", str(file)).output.splitlines()
    lines = [json.loads(line) for line in run("show", "--config", str(file), "-o", "ndjson").output.splitlines()]

    assert "key\tvalue\tsource" == table[0]
    assert [f"[{one['table']}] {one['key']}\t{json.dumps(one['value'])}\t{one['source']}" for one in lines] == table[1:]


def test_the_packaged_file_is_a_start_for_an_own_one(tmp_path: Path) -> None:
    """A file that exists is not overwritten, and an error of the system is one sentence."""
    path = tmp_path / "state" / "config.toml"
    ended = run("init", "--config", str(path))
    assert (0, f"wrote {path}\n") == (ended.exit_code, ended.output)
    assert files.PACKAGED.read_text() == path.read_text()

    errors = [run("init", "--config", str(one)).exception for one in (path, path / "config.toml")]
    assert [FatalError, FatalError] == [type(error) for error in errors]
    assert [f"{path} exists already", f"cannot write {path / 'config.toml'}: File exists"] == list(map(str, errors))
