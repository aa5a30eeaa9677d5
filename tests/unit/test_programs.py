"""Tests of the errors of all programs that cannot start."""

from pathlib import Path

import pytest

from scripts.launcher.ports import write_config
from tests.support.processes import run_program
from tests.support.servers import handle, serving


@pytest.mark.parametrize(
    "program", [("registry",), ("nodes", "messages", "--port", "1"), ("nodes", "logging", "--port", "1"), ("facade",)]
)
def test_a_missing_configuration_is_one_sentence(program: tuple[str, ...], tmp_path: Path) -> None:
    """Without config.toml every program says so and exits with 1, without a traceback."""
    ended = run_program(*program, "--config", str(tmp_path / "none.toml"))

    name = program[0]
    expected = f"{name}: cannot read the configuration {tmp_path / 'none.toml'}: No such file or directory\n"
    assert (1, expected) == (ended.returncode, ended.stderr)


def test_a_wrong_configuration_is_one_sentence(tmp_path: Path) -> None:
    """An unknown key is named, with the key that was probably meant."""
    (tmp_path / "config.toml").write_text("[servce_ips]\n")
    ended = run_program("facade", "--config", str(tmp_path / "config.toml"))

    assert 1 == ended.returncode
    assert f"facade: {tmp_path}/config.toml: unknown table 'servce_ips'; did you mean 'service_ips'?\n" == ended.stderr


@pytest.mark.parametrize(
    "program",
    [
        *("registry", "nodes messages --port 5001", "nodes logging --port 5002", "facade"),
        *("scripts.cluster status", "scripts.export", "scripts.import", "scripts.keys list", "scripts.tokens list"),
    ],
)
def test_every_program_reads_the_environment(program: str, tmp_path: Path) -> None:
    """A wrong variable is refused at start, in one sentence."""
    write_config(tmp_path / "config.toml")
    file = str(tmp_path / "config.toml")
    ended = run_program(*program.split(), stdin="", THREEFOLD_CONFIG=file, THREEFOLD_FACADE__THREADS="0")

    name = program.split(maxsplit=1)[0].removeprefix("scripts.")
    assert (1, f"{name}: THREEFOLD_FACADE__THREADS is '0': Expected `int` >= 1\n") == (ended.returncode, ended.stderr)


def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    """Each kind of server names its address and the reason."""
    write_config(tmp_path / "config.toml")
    file = ("--config", str(tmp_path / "config.toml"))
    with serving(handle) as address:
        port = address.partition(":")[2]
        for program in (("registry",), ("nodes", "messages"), ("nodes", "logging"), ("facade",)):
            ended = run_program(*program, "--port", port, *file)
            assert 1 == ended.returncode
            assert f"{program[0]}: cannot listen at {address}: the port is taken" == ended.stderr.splitlines()[-1]
            assert "Traceback" not in ended.stderr
