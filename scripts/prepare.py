"""`python -m scripts.prepare`: downloads the Hazelcast jar, and makes an archive that shortens a member's start."""

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

DUMP_S = 300.0  # timeout of `java -Xshare:dump`; 2.6 s measured, over 60 s beside much other work
KEPT_ARCHIVES = 4  # of 42 MB each: other clones and other versions of Java have their own


@click.command()
def main() -> None:
    """Download and prepare what a logging node needs to start fast. A second run has nothing to do."""
    runtime = prepare(click.echo)
    click.echo(f"ready: Java {runtime.version} in {runtime.home}, {runtime.jar.name}")


def prepare(progress: Progress) -> java.JavaRuntime:
    """Find the Java runtime of the members, and make its class-data archive if it is missing.

    An archive that cannot be made is only reported to `progress`.

    Raises:
        FatalError: no Java or no jar is available.
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
    """Run one member alone to list the classes that it loads, and write them as an archive for Java to map."""
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
    process.entry("prepare", main, umask=process.SHARED_UMASK)()  # all users of an image share the cache
