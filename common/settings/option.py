"""The option `--config`, which every program of the project has."""

import os
from pathlib import Path

import click

from common.settings.environment import CONFIG_FILE
from common.settings.files import default_path

config_option = click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=lambda: default_path(os.environ),
    envvar=CONFIG_FILE,
    help=f"Configuration file; default from the environment variable {CONFIG_FILE}.",
)
