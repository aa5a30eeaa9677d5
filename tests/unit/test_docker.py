"""Tests of the Dockerfile and the compose file. No Docker engine runs them: they are parsed, and their steps tried."""

import graphlib
import re
import subprocess
from pathlib import Path

import click
import pytest

from common import config, hostport
from scripts.launcher import ping
from scripts.launcher.processes import ROOT
from tests.support.examples import FOLDER, arguments_of, compose, dockerfile, health_command

BUILD, RUNTIME = dockerfile()
SERVICES = compose()["services"]
SETTINGS = config.load(FOLDER / "config.toml")

each_service = pytest.mark.parametrize("name", SERVICES)


def runs_of(stage: str) -> list[str]:
    """The shell commands that make a stage."""
    return arguments_of({"build": BUILD, "runtime": RUNTIME}[stage], "RUN")


def address(name: str) -> str:
    """The host of a service, which its network gives it."""
    return str(SERVICES[name]["networks"]["threefold"]["ipv4_address"])


def test_the_image_has_only_what_it_runs() -> None:
    """The second stage takes the finished folder of the first, and installs nothing."""
    assert "python:3.11-slim AS build" == BUILD[0].argument
    assert ["--from=build /opt/threefold /opt/threefold"] == arguments_of(RUNTIME, "COPY")
    assert [] == [run for run in runs_of("runtime") if re.search(r"\b(pip|apt-get|curl)\b", run)]


def test_packages_are_installed_with_their_hashes() -> None:
    """From the lock file, and wheels only: no code of a package runs while it is installed."""
    (install,) = [run for run in runs_of("build") if "pip install" in run]

    assert "--require-hashes --requirement .ci/requirements.txt" in install
    assert "--only-binary :all:" in install


def test_the_programs_do_not_run_as_root() -> None:
    """The account has a number, so that Kubernetes can see that it is not root."""
    assert ["10001:10001"] == arguments_of(RUNTIME, "USER")
    assert [True] == ["--uid 10001" in run and "--gid 10001" in run for run in runs_of("runtime")]


def test_a_signal_reaches_the_program() -> None:
    """Entry point and command are lists, so no shell is in between."""
    for name in ("ENTRYPOINT", "CMD"):
        assert [True] == [found.startswith("[") for found in arguments_of(RUNTIME, name)], name


def test_a_failed_preparation_is_a_failed_build(tmp_path: Path) -> None:
    """The step that prepares ends with the error of the program, here of one that fails at nothing else."""
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\n[ "$*" != "-m scripts.prepare" ]\n')
    python.chmod(0o700)
    (step,) = [run for run in runs_of("build") if "scripts.prepare" in run]

    assert 1 == subprocess.run(["sh", "-c", step], cwd=tmp_path, check=False).returncode


def test_what_is_copied_exists_and_is_in_the_context() -> None:
    """Every package of the project is copied; the list of the context has no more than that."""
    copied = {source for argument in arguments_of(BUILD, "COPY") for source in argument.split()[:-1]}
    lines = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    context = {line[1:] for line in lines if line.startswith("!")}
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}

    assert copied == context
    assert set() == packages - copied
    assert [] == [source for source in copied if not (ROOT / source).exists()]


def test_no_secret_is_in_the_context() -> None:
    """Everything is left out first, and keys and tokens once more after the exceptions."""
    lines = [line for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] != "#"]
    last_exception = max(index for index, line in enumerate(lines) if line.startswith("!"))

    assert "*" == lines[0]
    assert {"**/*.key", "**/tokens.toml"} <= set(lines[last_exception:])


def is_valid_probe(command: list[str]) -> bool:
    """True if a command is one that scripts.launcher.ping accepts."""
    try:
        ping.main.make_context("ping", command[3:])
    except click.UsageError:
        return False
    return ["python", "-m", "scripts.launcher.ping"] == command[:3]


def test_the_image_checks_its_health() -> None:
    """The check is a command of the project."""
    assert is_valid_probe(health_command())


@each_service
def test_each_service_is_built_here(name: str) -> None:
    """Its image comes from the Dockerfile, never from a registry where the name is somebody else's."""
    build = SERVICES[name]["build"]

    assert ROOT == (FOLDER / build["context"]).resolve()
    assert FOLDER / "Dockerfile" == ROOT / build["dockerfile"]
    assert "build" == SERVICES[name]["pull_policy"]


@each_service
def test_each_service_asks_its_own_process(name: str) -> None:
    """The check names the address at which the process of this service listens."""
    kind, *command = SERVICES[name]["healthcheck"]["test"]
    listeners = {
        *SETTINGS.registry.addresses,
        *SETTINGS.service_ips.messages_service,
        *SETTINGS.service_ips.logging_service,
        SETTINGS.facade.address,
    }

    assert "CMD" == kind
    assert is_valid_probe(command)
    assert command[-1] in listeners
    assert address(name) == hostport.split(command[-1])[0]


@each_service
def test_each_service_may_do_little(name: str) -> None:
    """No capabilities, no new privileges, and nothing can be written outside of volumes and /tmp."""
    service = SERVICES[name]

    assert ["ALL"] == service["cap_drop"]
    assert ["no-new-privileges:true"] == service["security_opt"]
    assert True is service["read_only"]
    assert ["/tmp"] == service["tmpfs"]  # noqa: S108 (of the container)


def test_services_wait_until_others_are_healthy() -> None:
    """Without a circle. Logging nodes wait for no other logging node, which may need them to start."""
    needs = {name: service.get("depends_on", {}) for name, service in SERVICES.items()}
    conditions = {after["condition"] for one in needs.values() for after in one.values()}

    assert "registry" == next(iter(graphlib.TopologicalSorter(needs).static_order()))
    assert {"service_healthy"} == conditions
    assert [{"registry"}] * 3 == [{*needs[f"logging{number}"]} for number in (1, 2, 3)]
    assert {*SERVICES} - {"facade"} == {*needs["facade"]}


def test_only_this_machine_reaches_the_facade() -> None:
    """No other port is published."""
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert {"facade": ["127.0.0.1:5000:5000"]} == published


def test_each_logging_node_has_a_volume_of_its_own() -> None:
    """The volume is where the configuration has the journals, and the file of the configuration exists."""
    mounted = [volume.split(":") for service in SERVICES.values() for volume in service["volumes"]]
    named = [source for source, target, *_ in mounted if target == SETTINGS.storage.directory]
    files = {source for source, *_ in mounted if source.startswith(".")}

    assert sorted(compose()["volumes"]) == sorted(named)
    assert {FOLDER / "config.toml"} == {(FOLDER / file).resolve() for file in files}
