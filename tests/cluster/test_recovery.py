"""Tests of recovery on real clusters: restarts of all nodes, lost disks, damaged journals; export and import."""

import json
import sqlite3
from pathlib import Path

import pytest

from common.errors import FatalError
from common.protocol.messages import PAGE_MESSAGES, Page, Read
from common.rpc.pooled import PooledTransport
from common.rpc.transport import ask
from scripts.client.connection import client
from scripts.launcher.cluster import Cluster
from tests.support.clusters import fill, quiet
from tests.support.processes import run_on_cluster
from tests.support.waiting import eventually


def stored_messages(cluster: Cluster, number: int) -> int:
    """The number of messages on the disk of a node."""
    connection = sqlite3.connect(cluster.journal(number))
    (count,) = connection.execute("SELECT count(*) FROM messages").fetchone()
    connection.close()
    return int(count)


def test_everything_is_back_after_all_nodes_died_and_a_disk_was_lost(
    own_cluster: Cluster, tmp_path: Path, transport: PooledTransport
) -> None:
    """All nodes are killed, one journal is wiped, and all are started: each of them has everything, in order."""
    with client(own_cluster.settings.facade.address) as http_client:
        texts = [f"m{number}" for number in range(300)]
        assert {200} == {http_client.post(text).status for text in texts}
        eventually(lambda: [300] * 3 == [stored_messages(own_cluster, number) for number in (1, 2, 3)])
        own_cluster.kill([1, 2, 3])
        refused = run_on_cluster(tmp_path, "scripts.cluster", "wipe", "2", stdin="n\n")
        wiped = run_on_cluster(tmp_path, "scripts.cluster", "wipe", "2", stdin="y\n")
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


def test_a_damaged_journal_is_refused_and_refilled_after_a_wipe(own_cluster: Cluster, tmp_path: Path) -> None:
    """A node whose messages are gone does not start; after a wipe its peers refill it. A running node is not wiped."""
    fill(own_cluster, [f"m{number}" for number in range(500)])
    eventually(lambda: [500] * 3 == [stored_messages(own_cluster, number) for number in (1, 2, 3)])
    own_cluster.kill([3])
    connection = sqlite3.connect(own_cluster.journal(3), isolation_level=None)
    connection.execute("DELETE FROM messages WHERE arrival % 5 = 0")
    connection.close()
    with pytest.raises(FatalError, match="messages are gone"):
        own_cluster.start([3], quiet)
    assert 0 == run_on_cluster(tmp_path, "scripts.cluster", "wipe", "3", "-y").returncode
    own_cluster.start([3], quiet)

    assert [500] * 3 == [stored_messages(own_cluster, number) for number in (1, 2, 3)]
    verified = run_on_cluster(tmp_path, "scripts.cluster", "verify")
    assert 0 == verified.returncode, verified.stdout + verified.stderr
    assert 3 == verified.stdout.count("127.0.0.1:")
    wiped = run_on_cluster(tmp_path, "scripts.cluster", "wipe", "-y")
    assert (1, "cluster: logging-1, logging-2, logging-3 is running: stop it first\n") == (
        wiped.returncode,
        wiped.stderr,
    )


def test_an_export_can_be_imported_into_another_cluster(
    cluster: Cluster, embedded_cluster: Cluster, tmp_path: Path
) -> None:
    """An embedded cluster gets all messages under the same ids, also if they are imported twice."""
    fill(cluster, [f"export {number}" for number in range(1_200)])
    source = ("--config", str(cluster.folder.parent / "config.toml"))
    target = ("--config", str(tmp_path / "config.toml"))
    exported = run_on_cluster(tmp_path, "scripts.export", *source)
    for _ in range(2):
        imported = run_on_cluster(tmp_path, "scripts.import", *target, stdin=exported.stdout)
        assert 0 == imported.returncode, imported.stderr
    again = run_on_cluster(tmp_path, "scripts.export", *target)
    wrong = run_on_cluster(tmp_path, "scripts.import", *target, stdin='{"id": 1}\n')
    compared = run_on_cluster(tmp_path, "scripts.cluster", "verify")

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
