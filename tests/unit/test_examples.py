"""Tests of docs/examples: its commands and its configuration are valid."""

import gzip
import json
import re
import shlex
import subprocess
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


@pytest.mark.needs("logrotate")
def test_logs_are_rotated_while_they_are_written(tmp_path: Path) -> None:
    """The example copies and empties each log; the process appends at its begin, and no line is lost or cut."""
    log, state = tmp_path / "node.log", tmp_path / "state"
    rules = (FOLDER / "threefold.logrotate").read_text()
    rules = re.sub(r"^/\S+ \{$", f"{tmp_path}/*.log {{", rules, flags=re.MULTILINE).replace(
        "su threefold threefold", ""
    )
    (tmp_path / "rules").write_text(rules)
    with log.open("ab") as output:
        for number in range(3):
            output.write(f"line {number}\n".encode())
            output.flush()
            command = ["logrotate", "--force", "--state", str(state), str(tmp_path / "rules")]
            subprocess.run(command, check=True, capture_output=True, timeout=30)
        output.write(b"last\n")

    assert "last\n" == log.read_text()
    assert "line 2\n" == (tmp_path / "node.log.1").read_text()
    assert b"line 1\n" == gzip.decompress((tmp_path / "node.log.2.gz").read_bytes())
