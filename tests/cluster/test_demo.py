"""Tests of scripts.demo."""

import re
import shutil
from pathlib import Path

import psutil

from scripts.client.connection import client
from scripts.launcher.cluster import Cluster
from scripts.launcher.ports import write_config
from tests.support.processes import run_program


def test_the_launcher_without_a_jar_exits_with_the_reason(tmp_path: Path) -> None:
    """It names the file that the environment names."""
    missing = str(tmp_path / "none.jar")
    write_config(tmp_path / "config.toml")
    up = run_program("scripts.cluster", "--config", str(tmp_path / "config.toml"), "up", HAZELCAST_JAR=missing)

    assert (1, f"cluster: HAZELCAST_JAR names {missing}, which is not a file\n") == (up.returncode, up.stderr)


def test_the_demo_reports_no_loss_and_leaves_no_process(cluster: Cluster, tmp_path: Path) -> None:
    """`python -m scripts.demo` runs beside another cluster, exits with 0, and ends all of its processes."""
    del cluster
    ended = run_program("scripts.demo", COLUMNS="140", TMPDIR=str(tmp_path))  # other tests run demos, too

    assert 0 == ended.returncode, ended.stdout + ended.stderr
    assert re.search(r"longest gap that a client saw at the kill: \d+ ms", ended.stdout)
    assert re.search(r"\d+ acknowledged, \d+ read, 0 lost, 0 doubled, with two of three nodes dead", ended.stdout)
    assert [] == [one.pid for one in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(one.info["cmdline"])]


def test_the_demo_without_java_uses_the_embedded_engine_and_its_cluster_can_be_kept(tmp_path: Path) -> None:
    """It says which engine it uses; --keep leaves the cluster up, and prints the commands that use it and end it."""
    ended = run_program("scripts.demo", "--keep", HAZELCAST_JAR=str(tmp_path / "none.jar"), COLUMNS="140")
    (path,) = re.findall(r"\S+python\S* -m scripts\.cluster --config (\S+) down", ended.stdout)
    kept = Cluster(Path(path))
    try:
        assert 0 == ended.returncode, ended.stdout + ended.stderr
        assert "using the embedded engine instead" in ended.stdout
        assert "0 lost" in ended.stdout
        (url,) = re.findall(r"^curl (http://\S+)$", ended.stdout, re.MULTILINE)
        assert f"http://{kept.settings.facade.address}/facade" == url
        with client(kept.settings.facade.address) as reader:
            assert "msg1" in reader.read()
    finally:
        kept.down()
        kept.close()
        shutil.rmtree(Path(path).parent)
