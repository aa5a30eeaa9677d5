"""Tests of scripts.prepare without Java; tests/cluster/hazelcast/test_prepare.py makes a real archive."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from common.errors import FatalError
from nodes.hazelcast import java
from scripts import prepare


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The variables for a folder that looks like a Java of version 25, an empty jar and an empty cache."""
    home = tmp_path / "java"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "java").touch(mode=0o755)
    (home / "release").write_text('JAVA_VERSION="25.0.1"\n')
    (tmp_path / "x.jar").touch()
    return {
        "JAVA_HOME": str(home),
        "HAZELCAST_JAR": str(tmp_path / "x.jar"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }


def run(environ: dict[str, str]) -> Result:
    """Run the command with these variables."""
    return CliRunner().invoke(prepare.main, [], env=environ)


def test_there_is_nothing_to_do_if_the_archive_exists(environ: dict[str, str]) -> None:
    """The command only says which Java and jar will be used, and leaves the archive alone."""
    archive = java.find(environ).archive
    archive.parent.mkdir(parents=True)
    archive.write_bytes(b"made before")
    ended = run(environ)

    assert (0, f"ready: Java 25 in {environ['JAVA_HOME']}, x.jar\n") == (ended.exit_code, ended.output)
    assert b"made before" == archive.read_bytes()


def test_an_archive_that_cannot_be_made_is_not_fatal(environ: dict[str, str]) -> None:
    """Members start without it, only slower; the command says why."""
    Path(environ["XDG_CACHE_HOME"]).write_text("a file in the place of the folder")
    ended = run(environ)
    first, second, last = ended.output.splitlines()

    assert 0 == ended.exit_code
    assert "preparing Java for Hazelcast, once: about 5 s" == first
    assert second.startswith("members will start slower, without a class-data archive: ")
    assert environ["XDG_CACHE_HOME"] in second
    assert last.startswith("ready: Java 25")


def test_a_missing_jar_is_fatal(environ: dict[str, str], tmp_path: Path) -> None:
    """Without it no member can start, and nothing is prepared."""
    ended = run(environ | {"HAZELCAST_JAR": str(tmp_path / "none.jar")})

    assert isinstance(ended.exception, FatalError)
    assert "none.jar, which is not a file" in str(ended.exception)
    assert "" == ended.output
