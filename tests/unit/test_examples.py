"""Tests of docs/examples: commands, configuration, units and rotation. What systemd checks offline, it checks here."""

import gzip
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import pytest

import facade.__main__
import nodes.__main__
import registry.__main__
from common import config, hostport
from common.config import Facade
from facade.__main__ import SENDING_S
from tests.support.examples import FOLDER, UNITS, arguments_of, compose, container, dockerfile, unit, workloads

PROGRAMS: dict[str, click.Command] = {
    "facade": facade.__main__.main,
    "nodes": nodes.__main__.main,
    "registry": registry.__main__.main,
}

EXPOSURE = 20  # tenths; the highest that systemd may rate a unit: 1.7 of 10 measured, 9.6 without any restriction

# What every unit says, besides its own command.
COMMON = {
    "Type": "exec",
    "User": "threefold",
    "WorkingDirectory": "/opt/threefold",
    "Restart": "on-failure",
    "StateDirectory": "threefold",
    "StateDirectoryMode": "0700",
    "UMask": "0077",
    "CapabilityBoundingSet": "",
    "NoNewPrivileges": "true",
    "ProtectSystem": "strict",
    "ProtectHome": "true",
    "PrivateTmp": "true",
    "PrivateDevices": "true",
    "SystemCallFilter": "@system-service",
}
OWN = {"ExecStart", "TimeoutStopSec", "KillMode", "Environment"}  # what the units say differently

each_unit = pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)


def commands() -> list[list[str]]:
    """The arguments of each unit, service, pod and of the image, beginning with the program."""
    return [
        *(shlex.split(unit(path.read_text())["Service"]["ExecStart"].partition(" -m ")[2]) for path in UNITS),
        *(service["command"] for service in compose()["services"].values()),
        *(container(workload)["args"] for workload in workloads()),
        json.loads(arguments_of(dockerfile()[-1], "CMD")[0]),
    ]


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
    addresses = {
        *settings.service_ips.messages_service,
        *settings.service_ips.logging_service,
        *settings.hazelcast.clients,
        *settings.registry.addresses,
        settings.facade.address,
    }
    given = {service["networks"]["threefold"]["ipv4_address"] for service in compose()["services"].values()}

    assert given == {hostport.split(address)[0] for address in addresses}


@pytest.mark.needs("logrotate")
def test_logs_are_rotated_while_they_are_written(tmp_path: Path) -> None:
    """The example copies and empties each log; the process appends at its begin, and no line is lost or cut."""
    log, state = tmp_path / "node.log", tmp_path / "state"
    rules = (FOLDER / "threefold.logrotate").read_text()
    rules = re.sub(r"^/.+ \{$", f"{tmp_path}/*.log {{", rules, flags=re.MULTILINE).replace("su threefold threefold", "")
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


@each_unit
def test_each_unit_is_restricted(path: Path) -> None:
    """No capabilities, no other writable folder than its own, and a restart after a failure."""
    service = unit(path.read_text())["Service"]

    assert COMMON == {key: service.get(key) for key in COMMON}


def test_the_units_agree() -> None:
    """Apart from their commands, and the time for a stop, all units say the same."""
    services = [dict(unit(path.read_text())["Service"]) for path in UNITS]
    shared = [{key: value for key, value in service.items() if key not in OWN} for service in services]

    assert 4 == len(shared)
    assert [shared[0]] * 4 == shared


@each_unit
def test_each_unit_starts_after_units_that_exist(path: Path) -> None:
    """The names of our own units are those of files here."""
    named = set(re.findall(r"threefold-\w+\.service", unit(path.read_text())["Unit"]["After"]))

    assert named <= {file.name for file in UNITS}


def test_a_stop_has_the_time_that_it_needs() -> None:
    """A facade answers what it accepted, which takes as long as the deadline of a request and the time to send."""
    service = unit((FOLDER / "threefold-facade.service").read_text())["Service"]

    assert float(service["TimeoutStopSec"]) > Facade().deadline_s + SENDING_S


@pytest.fixture
def runnable(tmp_path: Path) -> list[str]:
    """Copies of the units whose program is one of this machine."""
    for path in UNITS:
        text = re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", path.read_text(), flags=re.MULTILINE)
        (tmp_path / path.name).write_text(text)
    return [str(tmp_path / path.name) for path in UNITS]


def run(*command: str) -> tuple[int, str]:
    """The exit code and the output of a command."""
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.needs("systemd-analyze")
def test_systemd_accepts_the_units(runnable: list[str]) -> None:
    """It knows every key and every value."""
    assert (0, "") == run("systemd-analyze", "verify", "--man=no", *runnable)


@pytest.mark.needs("systemd-analyze")
def test_the_exposure_of_each_unit_is_low(runnable: list[str]) -> None:
    """As systemd rates it, of 100."""
    for path in runnable:
        code, output = run("systemd-analyze", "security", "--offline=yes", f"--threshold={EXPOSURE}", path)
        assert 0 == code, output


@pytest.mark.needs("systemd-sysusers")
def test_the_account_can_be_made(tmp_path: Path) -> None:
    """It is that of the units, has their folder as its home, and no shell."""
    (tmp_path / "etc").mkdir()
    code, output = run("systemd-sysusers", f"--root={tmp_path}", str(FOLDER / "threefold.sysusers"))
    assert 0 == code, output
    (account,) = (tmp_path / "etc" / "passwd").read_text().splitlines()

    assert COMMON["User"] == account.split(":")[0]
    assert ["/var/lib/threefold", "/usr/sbin/nologin"] == account.split(":")[5:]
