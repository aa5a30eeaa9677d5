"""`threefold`, or `python -m scripts.console`: every command of the project in one program.

The commands of the client are at the top, as in `scripts.cli`. The other programs are mounted below it, and each is
imported when it is called: `threefold send` must not wait for the libraries of the launcher.
"""

import importlib
from typing import Any

import click
from click.shell_completion import get_completion_class

from common import process
from scripts import cli

NAME = "threefold"
SHELLS = ("bash", "zsh", "fish")


class LazyCommand(click.Command):
    """A command of another module, which is imported when the command is parsed.

    Args:
        name: of the command.
        module: the module, which has the command as `main`.
        short_help: what the list of commands says about it.
    """

    def __init__(self, name: str, module: str, short_help: str) -> None:
        super().__init__(name, short_help=short_help)
        self.module = module

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """The context of the imported command, which then runs instead of this one."""
        command: click.Command = importlib.import_module(self.module).main
        return command.make_context(info_name, args, parent, **extra)


def _connect(**options: Any) -> None:
    """Make a client for the commands that need one, with the options of `scripts.cli`."""
    if click.get_current_context().invoked_subcommand in cli.main.commands and cli.main.callback:
        cli.main.callback(**options)


main = click.Group(
    NAME,
    params=cli.main.params,
    callback=_connect,
    commands=[
        *cli.main.commands.values(),
        LazyCommand("cluster", "scripts.cluster", "Run a cluster on this machine."),
        LazyCommand("config", "scripts.console.configuration", "Check and show the configuration."),
        LazyCommand("demo", "scripts.demo", "Kill two nodes of a temporary cluster, and lose nothing."),
        LazyCommand("export", "scripts.export", "Write every message to stdout."),
        LazyCommand("import", "scripts.import", "Store an export."),
        LazyCommand("keys", "scripts.keys", "Make, list and remove the keys of processes."),
        LazyCommand("tokens", "scripts.tokens", "Add, list and remove the tokens of clients."),
    ],
    help="""Send, read and follow messages, and run a Threefold cluster.

    Exit codes: 0 success, 1 failure, 2 wrong usage, 3 cluster degraded (`status`, `top`). The options are those of the
    commands that talk to a facade.
    """,
)


@main.command("help")
@click.argument("names", nargs=-1, metavar="[COMMAND]...")
@click.pass_context
def show_help(context: click.Context, names: tuple[str, ...]) -> None:
    """Show the help of a command, such as `cluster up`."""
    root = context.find_root()
    root.command.main([*names, "--help"], prog_name=root.info_name)


@main.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion script of a shell."""
    if found := get_completion_class(shell):
        click.echo(found(main, {}, NAME, f"_{NAME.upper()}_COMPLETE").source())


def run() -> None:
    """The entry point of the console script."""
    process.entry(NAME, main)(prog_name=NAME)


if __name__ == "__main__":
    run()
