"""Tests of the arguments of scripts.cluster, on a cluster none of whose processes runs."""

from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from common.errors import ConfigError, FatalError
from scripts import cluster
from scripts.launcher.cluster import Cluster
from scripts.launcher.ports import write_config


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The configuration of a cluster that is down."""
    write_config(tmp_path / "config.toml")
    return tmp_path / "config.toml"


@pytest.fixture
def journal(config: Path) -> Path:
    """The journal of logging node 1."""
    with closing(Cluster(config)) as made:
        path = made.journal(1)
    path.parent.mkdir()
    path.touch()
    return path


def run(config: Path, *arguments: str, answer: str = "") -> Result:
    """Run a command on the cluster of a configuration, and answer its question."""
    return CliRunner().invoke(cluster.main, ["--config", str(config), *arguments], input=answer)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("kill",), "Missing argument 'NUMBERS...'"),
        (("start",), "Missing argument 'NUMBERS...'"),
        (("kill", "one"), "'one' is not a valid integer"),
        (("--engine", "other", "status"), "'other' is not one of 'hazelcast', 'embedded'"),
    ],
)
def test_wrong_usage_is_named(config: Path, arguments: tuple[str, ...], reason: str) -> None:
    """The exit code is 2."""
    ended = run(config, *arguments)

    assert (2, True) == (ended.exit_code, reason in ended.output), ended.output


def test_the_configuration_may_be_named_in_the_environment(config: Path, tmp_path: Path) -> None:
    """The option takes precedence; a file that is missing is an error that names it."""
    environ = {"THREEFOLD_CONFIG": str(tmp_path / "none.toml")}
    ended = CliRunner().invoke(cluster.main, ["down"], env=environ)
    assert isinstance(ended.exception, ConfigError)
    assert "none.toml" in str(ended.exception)

    assert 0 == CliRunner().invoke(cluster.main, ["--config", str(config), "down"], env=environ).exit_code


def test_a_wipe_needs_a_yes(config: Path, journal: Path) -> None:
    """The question says which journals would be removed; any other answer removes nothing."""
    refused = run(config, "wipe", "1", answer="n\n")
    assert (1, True) == (refused.exit_code, journal.exists())
    assert "Remove every message of logging node 1 on this machine?" in refused.output
    assert "Remove every message of this cluster on this machine?" in run(config, "wipe", answer="n\n").output

    assert "removed 1 file" in run(config, "wipe", "1", answer="y\n").output
    assert not journal.exists()


def test_a_wipe_asks_nothing_with_yes(config: Path, journal: Path) -> None:
    """Scripts have nobody to answer."""
    ended = run(config, "wipe", "--yes")

    assert (0, "removed 1 file\n") == (ended.exit_code, ended.output)
    assert not journal.exists()


def test_a_cluster_that_is_down_is_shown_as_such(config: Path) -> None:
    """Each process has a row with its whole address, and the exit code is 1."""
    ended = run(config, "status")
    rows = [line for line in ended.output.splitlines() if " down " in line]
    with closing(Cluster(config)) as made:
        expected = [(part.name, part.address) for part in made.parts]

    assert 1 == ended.exit_code
    assert expected == [(row.split()[1], row.split()[3]) for row in rows]


def test_a_node_that_cannot_be_killed_is_an_error(config: Path) -> None:
    """The error names the node that is unknown or down."""
    errors = [run(config, "kill", *numbers).exception for numbers in (["1", "7"], ["1"])]

    assert [FatalError, FatalError] == [type(error) for error in errors]
    assert ["there is no logging node 7: they are numbered 1 to 3", "logging-1 is not running"] == list(
        map(str, errors)
    )
