"""Tests of what is on disk, on real clusters: all nodes die, a disk is lost, journals differ; export and import."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import FatalError
from common.protocol.messages import PAGE_MESSAGES, Page, Read
from common.rpc.pooled import PooledTransport
from common.rpc.transport import ask
from scripts.client.connection import client
from scripts.launcher.cluster import Cluster
from scripts.launcher.processes import ROOT
from tests.chaos.faults.stage import quiet
from tests.support.clusters import fill
from tests.support.waiting import eventually

Ended = subprocess.CompletedProcess[str]


def command(folder: Path, *arguments: str, text: str | None = None) -> Ended:
    """`python -m …` on the cluster of a folder."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=os.environ | {"THREEFOLD_CONFIG": str(folder / "config.toml"), "COLUMNS": "140"},
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def stored(cluster: Cluster, number: int) -> int:
    """How many messages are on the disk of a node."""
    connection = sqlite3.connect(cluster.journal(number))
    (count,) = connection.execute("SELECT count(*) FROM messages").fetchone()
    connection.close()
    return int(count)


def test_all_nodes_die_and_one_disk_is_lost_and_everything_is_back(
    own_cluster: Cluster, tmp_path: Path, transport: PooledTransport
) -> None:
    """Nodes and members are killed, one journal is wiped, all are started: any one of them has everything, in order."""
    with client(own_cluster.settings.facade.address) as http_client:
        texts = [f"m{number}" for number in range(300)]
        assert {200} == {http_client.post(text).status for text in texts}
        eventually(lambda: [300] * 3 == [stored(own_cluster, number) for number in (1, 2, 3)])
        own_cluster.kill([1, 2, 3])
        refused = command(tmp_path, "scripts.cluster", "wipe", "2", text="n\n")
        wiped = command(tmp_path, "scripts.cluster", "wipe", "2", text="y\n")
        own_cluster.start([1, 2, 3], quiet)
        for node in own_cluster.settings.service_ips.logging_service:
            page = ask(transport, node, Read(after="", limit=PAGE_MESSAGES), Page, timeout_s=2.0)
            assert texts == [entry.msg for entry in page.entries]
        own_cluster.kill([1, 3])

        assert texts == http_client.read()
        assert 200 == http_client.post("more").status
    assert (1, 0) == (refused.returncode, wiped.returncode)
    assert "Remove every message of logging node 2 on this machine?" in wiped.stdout
    assert "removed 4 files" in wiped.stdout


def test_a_journal_that_lacks_messages_is_refused_and_filled_again(own_cluster: Cluster, tmp_path: Path) -> None:
    """A node with messages gone says so and does not start; wiped, it gets them all. No wipe under a running node."""
    fill(own_cluster, [f"m{number}" for number in range(500)])
    eventually(lambda: [500] * 3 == [stored(own_cluster, number) for number in (1, 2, 3)])
    own_cluster.kill([3])
    connection = sqlite3.connect(own_cluster.journal(3), isolation_level=None)
    connection.execute("DELETE FROM messages WHERE arrival % 5 = 0")
    connection.close()
    with pytest.raises(FatalError, match="messages are gone"):
        own_cluster.start([3], quiet)
    assert 0 == command(tmp_path, "scripts.cluster", "wipe", "3", "-y").returncode
    own_cluster.start([3], quiet)

    assert [500] * 3 == [stored(own_cluster, number) for number in (1, 2, 3)]
    verified = command(tmp_path, "scripts.cluster", "verify")
    assert 0 == verified.returncode, verified.stdout + verified.stderr
    assert 3 == verified.stdout.count("127.0.0.1:")
    wiped = command(tmp_path, "scripts.cluster", "wipe", "-y")
    assert (1, "cluster: logging-1, logging-2, logging-3 is running: stop it first\n") == (
        wiped.returncode,
        wiped.stderr,
    )


def test_everything_is_exported_and_imported_into_another_cluster(
    cluster: Cluster, embedded_cluster: Cluster, tmp_path: Path
) -> None:
    """From a real cluster into one on the embedded engine, under the same ids, twice; a wrong line is named."""
    fill(cluster, [f"export {number}" for number in range(1_200)])
    source = ("--config", str(cluster.folder.parent / "config.toml"))
    target = ("--config", str(tmp_path / "config.toml"))
    exported = command(tmp_path, "scripts.export", *source)
    for _ in range(2):
        imported = command(tmp_path, "scripts.import", *target, text=exported.stdout)
        assert 0 == imported.returncode, imported.stderr
    again = command(tmp_path, "scripts.export", *target)
    wrong = command(tmp_path, "scripts.import", *target, text='{"id": 1}\n')
    compared = command(tmp_path, "scripts.cluster", "verify")

    assert exported.stdout == again.stdout
    assert 1_200 <= len(exported.stdout.splitlines())
    assert {"id", "time", "msg"} == set(json.loads(exported.stdout.splitlines()[0]))
    assert f"imported {len(exported.stdout.splitlines())} messages\n" == imported.stderr
    assert (1, "import: line 1 is not a message: Expected `str`, got `int` - at `$.id`\n") == (
        wrong.returncode,
        wrong.stderr,
    )
    assert 0 == compared.returncode, compared.stdout + compared.stderr
    with client(embedded_cluster.settings.facade.address) as reader:
        assert len(exported.stdout.splitlines()) == len(reader.read())
