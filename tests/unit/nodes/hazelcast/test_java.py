"""Tests of nodes.hazelcast.java."""

from pathlib import Path

import pytest

from common.errors import FatalError
from nodes.hazelcast import java


def java_home(folder: Path, version: str) -> Path:
    """A folder that looks like the home of a Java of this version."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "java").touch(mode=0o755)
    (folder / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    return folder


def test_a_configured_java_and_jar_take_precedence(tmp_path: Path) -> None:
    """JAVA_HOME and HAZELCAST_JAR are used before the Java and the jar that pip installed."""
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
    """A JAVA_HOME of version 17 does not keep a member from starting with a newer Java."""
    old = java_home(tmp_path / "old", "17.0.15")
    new = java_home(tmp_path / "new", "25.0.1")
    (tmp_path / "x.jar").touch()
    environ = {"JAVA_HOME": str(old), "PATH": str(new / "bin"), "HAZELCAST_JAR": str(tmp_path / "x.jar")}
    found = java.find(environ, packaged=lambda: None)

    assert (new, 25) == (found.home, found.version)
    assert 17 == java.java_version(old)
    assert java.find(environ | {"PATH": ""}).version >= java.OLDEST_JAVA  # the Java that pip installed


def test_a_new_java_gets_the_flag_that_hazelcast_needs(tmp_path: Path) -> None:
    """From Java 23 on the command has a flag that older versions do not know."""
    runtime = java.JavaRuntime(tmp_path, 25, tmp_path / "x.jar", tmp_path / "x.jsa")

    assert "--sun-misc-unsafe-memory-access=allow" in runtime.command(heap_mb=64)


def test_a_folder_without_java_has_no_version(tmp_path: Path) -> None:
    """A folder without a release file, with an odd one, or without an executable is no Java home."""
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "release").write_text("nothing")
    home = java_home(tmp_path / "java", "21")
    (home / "bin" / "java").unlink()

    assert [0, 0, 0] == [java.java_version(path) for path in (tmp_path / "none", tmp_path / "odd", home)]


def test_the_error_without_java_says_what_was_found_and_what_to_do(tmp_path: Path) -> None:
    """The error names the Java that is too old, and the three remedies."""
    old = java_home(tmp_path / "old", "17.0.15")

    with pytest.raises(FatalError) as caught:
        java.find({"JAVA_HOME": str(old), "PATH": ""}, packaged=lambda: None)
    assert "no Java of 21 or newer (JAVA_HOME is 17)" in str(caught.value)
    assert "pip install .[cluster]" in str(caught.value)
    assert "--engine embedded" in str(caught.value)


def test_a_missing_jar_is_named(tmp_path: Path) -> None:
    """A wrong HAZELCAST_JAR is an error, and no jar is downloaded instead."""
    home = java_home(tmp_path / "java", "21.0.2")

    with pytest.raises(FatalError, match=r"HAZELCAST_JAR names .*none.jar, which is not a file"):
        java.find({"JAVA_HOME": str(home), "HAZELCAST_JAR": str(tmp_path / "none.jar")})


def test_a_jar_in_the_cache_is_not_downloaded_again(tmp_path: Path) -> None:
    """A jar that is in the cache is used."""
    jar = tmp_path / "threefold" / f"hazelcast-{java.HAZELCAST_VERSION}.jar"
    jar.parent.mkdir()
    jar.touch()

    home = java_home(tmp_path / "java", "21.0.2")

    assert jar == java.find({"JAVA_HOME": str(home), "XDG_CACHE_HOME": str(tmp_path)}).jar
    assert b"" == jar.read_bytes()


def test_a_failed_or_wrong_download_is_refused(tmp_path: Path) -> None:
    """An unreachable repository, a wrong hash and a missing package are one error each, and no jar is stored."""

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


def test_variables_of_hazelcast_do_not_reach_a_member() -> None:
    """Hazelcast takes them as configuration, so another name of the cluster would keep the members apart."""
    given = {"HZ_CLUSTERNAME": "other", "HZCLIENT_CLUSTERNAME": "other", "PATH": "/bin"}

    assert {"PATH": "/bin"} == java.environment(given)
