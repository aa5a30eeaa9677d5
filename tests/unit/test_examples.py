"""Tests of docs/examples: its commands and its configuration are valid."""

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import click
import pytest

import facade.__main__
import nodes.__main__
import registry.__main__
from common import config, hostport
from scripts.launcher.processes import ROOT

FOLDER = ROOT / "docs" / "examples"
PROGRAMS: dict[str, click.Command] = {
    "facade": facade.__main__.main,
    "nodes": nodes.__main__.main,
    "registry": registry.__main__.main,
}


def commands() -> list[list[str]]:
    """The arguments of each unit and of each service in the compose file, beginning with the program."""
    units = [
        shlex.split(re.findall(r"^ExecStart=\S+ -m (.*)$", path.read_text(), re.MULTILINE)[0])
        for path in sorted(FOLDER.glob("*.service"))
    ]
    services = re.findall(r"^ +command: (\[.*\])$", (FOLDER / "compose.yaml").read_text(), re.MULTILINE)
    return [*units, *map(json.loads, services)]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_each_example_command_is_valid(command: Sequence[str]) -> None:
    """The program accepts the options of each command."""
    program, *arguments = command
    run = PROGRAMS[program]
    if isinstance(run, click.Group):
        run, arguments = run.commands[arguments[0]], arguments[1:]

    assert run.make_context(program, arguments).params["path"] == Path("/etc/threefold/config.toml")


def test_the_example_addresses_are_those_of_the_compose_file() -> None:
    """The configuration is valid, and names exactly the addresses of the services."""
    settings = config.load(FOLDER / "config.toml")
    compose = (FOLDER / "compose.yaml").read_text()
    addresses = {
        *settings.service_ips.messages_service,
        *settings.service_ips.logging_service,
        *settings.hazelcast.clients,
        *settings.registry.addresses,
        settings.facade.address,
    }
    given = set(re.findall(r"ipv4_address: ([\d.]+)", compose))

    assert given == {hostport.split(address)[0] for address in addresses}
