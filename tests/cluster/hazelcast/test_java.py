"""Tests of nodes.hazelcast.java with the real jar."""

from pathlib import Path

from nodes.hazelcast import java
from nodes.hazelcast.java import JavaRuntime


def test_the_real_jar_is_downloaded_and_verified(tmp_path: Path, runtime: JavaRuntime) -> None:
    """The package registry serves the jar whose hash is pinned, and only the complete jar is in the folder."""
    del runtime
    jar = tmp_path / "hazelcast.jar"
    java.download(jar)

    assert [jar] == list(tmp_path.iterdir())
    assert jar.stat().st_size > 20_000_000
