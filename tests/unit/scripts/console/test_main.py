"""Tests of scripts.console.__main__."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner, Result

from common import VERSION
from scripts import cli
from scripts.client.facades import ApiError
from scripts.console.__main__ import SHELLS, LazyCommand, main
from scripts.launcher.processes import ROOT

OTHERS = {"cluster", "config", "demo", "export", "import", "keys", "tokens"}
LIBRARIES = ("hazelcast", "falcon", "waitress", "uvloop")
SENDING = (
    "import sys; from scripts.console.__main__ import main;"
    "main(['--url', 'ftp://x', 'send', 'hi'], standalone_mode=False)"
)


def run(*arguments: str, **environ: str) -> Result:
    """Run the console script."""
    return CliRunner().invoke(main, arguments, env=environ, prog_name="threefold")


def test_all_commands_are_in_one_program() -> None:
    """Those of the client, the other programs, help and completion."""
    assert {*cli.main.commands, *OTHERS, "help", "completion"} == {*main.commands}
    assert f"threefold {VERSION}\n" == run("--version").output


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_each_program_is_mounted_with_its_own_options(name: str) -> None:
    """The list of commands does not import it; its own help does."""
    mounted = main.commands[name]
    assert isinstance(mounted, LazyCommand)
    helped = run(name, "--help")

    assert (0, True) == (helped.exit_code, f"Usage: threefold {name} " in helped.output)
    assert f"  {name} " in run("--help").output


def test_help_is_that_of_a_command() -> None:
    """`help` alone is that of the program; an unknown command is wrong usage."""
    assert run("--help").output == run("help").output
    assert run("read", "--help").output == run("help", "read").output
    assert run("keys", "make", "--help").output == run("help", "keys", "make").output
    assert 2 == run("help", "raed").exit_code


@pytest.mark.parametrize("shell", SHELLS)
def test_the_completion_script_is_that_of_click(shell: str) -> None:
    """It asks the program itself, through the variable that click reads."""
    ended = run("completion", shell)

    assert (0, True) == (ended.exit_code, f"_THREEFOLD_COMPLETE={shell}_complete" in ended.output)


def test_commands_of_programs_that_are_mounted_are_completed() -> None:
    """A group is imported when its commands are asked for."""
    environ = {"COMP_WORDS": "threefold cluster w", "COMP_CWORD": "2", "_THREEFOLD_COMPLETE": "bash_complete"}

    assert "plain,wipe\n" == run(**environ).output


def test_only_commands_of_the_client_need_a_facade() -> None:
    """A wrong URL in the environment stops `status`, but not `config show`."""
    assert isinstance(run("status", FACADE_URL="ftp://x").exception, ApiError)
    assert 0 == run("config", "show", FACADE_URL="ftp://x").exit_code


def test_the_output_format_may_stand_before_the_command() -> None:
    """As for the commands of the client."""
    assert json.loads(run("-o", "json", "config", "show").output) == json.loads(
        run("config", "show", "-o", "json").output
    )


def test_a_command_of_the_client_imports_no_library_of_a_server() -> None:
    """`threefold send` starts fast."""
    program = f"try:\n    exec({SENDING!r})\nexcept Exception:\n    pass\nprint(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys\n{program}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
        timeout=60,
    )
    imported = ended.stdout.split()

    assert "scripts.client.facades" in imported
    assert [] == [library for library in LIBRARIES if library in imported]
