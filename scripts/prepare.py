"""`python -m scripts.prepare`: fetches the Hazelcast jar and makes the archive that shortens a member's start."""

import asyncio
import subprocess
import tempfile
from pathlib import Path

import click

from common import process
from common.errors import FatalError
from nodes.hazelcast import java, member
from scripts.launcher.parts import Progress
from scripts.launcher.ports import free_addresses

DUMP_S = 60.0  # for `java -Xshare:dump`; 2.6 s measured
KEPT_ARCHIVES = 4  # of 42 MB each: other checkouts, and other versions of Java, have their own


@click.command()
def main() -> None:
    """Fetch and make what a logging node needs to start fast; a second run finds it done."""
    runtime = prepare(click.echo)
    click.echo(f"ready: Java {runtime.version} in {runtime.home}, {runtime.jar.name}")


def prepare(progress: Progress) -> java.JavaRuntime:
    """The Java runtime of the members, with its class-data archive.

    Raises:
        FatalError: no Java or no jar can be had. An archive that cannot be made is only told.
    """
    runtime = java.find()
    if not runtime.archive.is_file():
        progress("preparing Java for Hazelcast, once: about 5 s")
        try:
            _archive(runtime)
        except (FatalError, OSError, subprocess.SubprocessError) as error:
            progress(f"members will start slower, without a class-data archive: {error}")
    return runtime


def _archive(runtime: java.JavaRuntime) -> None:
    """Run one member alone to learn which classes it loads, and write them in the form that Java maps into memory."""
    runtime.archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=runtime.archive.parent) as folder:
        classes, draft = Path(folder) / "classes.list", Path(folder) / "classes.jsa"
        asyncio.run(_list_classes(runtime, classes))
        dump = ("-Xshare:dump", f"-XX:SharedClassListFile={classes}", f"-XX:SharedArchiveFile={draft}")
        command = runtime.command(*dump, heap_mb=256)
        subprocess.run(command, check=True, timeout=DUMP_S, capture_output=True)
        draft.replace(runtime.archive)
    archives = sorted(runtime.archive.parent.glob("classes-*.jsa"), key=lambda path: path.stat().st_mtime)
    for outdated in archives[:-KEPT_ARCHIVES]:
        outdated.unlink()


async def _list_classes(runtime: java.JavaRuntime, classes: Path) -> None:
    (address,) = free_addresses(1)
    async with member.running_member(
        runtime,
        address=address,
        members=[address],
        cluster_name="threefold-prepare",
        heap_mb=256,
        log_path=classes.with_suffix(".log"),
        options=["-Xshare:off", f"-XX:DumpLoadedClassList={classes}"],
    ) as alone:
        await alone.started()


if __name__ == "__main__":
    process.entry("prepare", main)()
