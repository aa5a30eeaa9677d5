"""Tests of scripts.prepare with a real Java."""

import os
import subprocess
import sys
from pathlib import Path

from nodes.hazelcast import java
from nodes.hazelcast.java import JavaRuntime
from scripts import prepare
from scripts.launcher.processes import ROOT


def test_the_archive_is_made_once_and_old_archives_are_removed(runtime: JavaRuntime, tmp_path: Path) -> None:
    """The first run writes the archive of this Java and jar, the second one finds it, and few old ones are kept."""
    cache = tmp_path / "threefold"
    cache.mkdir()
    for number in range(6):
        (cache / f"classes-{number}.jsa").touch()
    environ = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "HAZELCAST_JAR": str(runtime.jar)}

    def run() -> str:
        return subprocess.run(
            [sys.executable, "-m", "scripts.prepare"], cwd=ROOT, env=environ, capture_output=True, text=True, check=True
        ).stdout

    first, second = run(), run()
    archive = java.find(environ).archive

    assert "preparing Java for Hazelcast, once: about 5 s\n" == first[: first.index("ready")]
    assert first.endswith(second)
    assert second.startswith(f"ready: Java {runtime.version} in {runtime.home}")
    assert archive.stat().st_size > 10_000_000
    assert prepare.KEPT_ARCHIVES == len(list(cache.glob("classes-*.jsa")))


def test_an_archive_that_cannot_be_written_is_reported_and_not_fatal(runtime: JavaRuntime, tmp_path: Path) -> None:
    """Without a writable cache the command says so, and members start without an archive."""
    (tmp_path / "threefold").write_text("a file in the place of the folder")
    environ = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "HAZELCAST_JAR": str(runtime.jar)}
    ended = subprocess.run(
        [sys.executable, "-m", "scripts.prepare"], cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    )

    assert "members will start slower, without a class-data archive: " in ended.stdout
