"""Tests of common.settings.option."""

from pathlib import Path

import click
from click.testing import CliRunner

from common.settings.files import CHECKOUT
from common.settings.option import config_option


@click.command()
@config_option
def show(path: Path) -> None:
    """Print the path."""
    click.echo(path)


def test_the_option_precedes_the_environment_and_that_the_default() -> None:
    """Without both, it is the file of the checkout."""
    environ = {"THREEFOLD_CONFIG": "/etc/one.toml"}

    assert "/etc/two.toml\n" == CliRunner().invoke(show, ["--config", "/etc/two.toml"], env=environ).output
    assert "/etc/one.toml\n" == CliRunner().invoke(show, env=environ).output
    assert f"{CHECKOUT}\n" == CliRunner().invoke(show, env={"THREEFOLD_CONFIG": None}).output
