"""Tests of recovery on real clusters: restarts of all nodes, lost disks, damaged journals; export and import."""

import json
import sqlite3

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
    restored_cluster: Cluster, transport: PooledTransport
) -> None:
    """All nodes are killed, one journal is wiped, and all are started: each of them has everything, in order."""
    with client(restored_cluster.settings.facade.address) as http_client:
        assert {200} == {http_client.post(f"before {number}").status for number in range(300)}
        texts = http_client.read()
        eventually(lambda: [len(texts)] * 3 == [stored_messages(restored_cluster, number) for number in (1, 2, 3)])
        restored_cluster.kill([1, 2, 3])
        refused = run_on_cluster(restored_cluster, "scripts.cluster", "wipe", "2", stdin="n\n")
        wiped = run_on_cluster(restored_cluster, "scripts.cluster", "wipe", "2", stdin="y\n")
        restored_cluster.start([1, 2, 3], quiet)
        for node in restored_cluster.settings.service_ips.logging_service:
            page = ask(transport, node, Read(after="", limit=PAGE_MESSAGES), Page, timeout_s=2.0)
            assert texts[:PAGE_MESSAGES] == [entry.msg for entry in page.entries]
        restored_cluster.kill([1, 3])

        assert texts == http_client.read()
        assert 200 == http_client.post("more").status
    assert (1, 0) == (refused.returncode, wiped.returncode)
    assert "Remove every message of logging node 2 on this machine?" in wiped.stdout
    assert "removed 4 files" in wiped.stdout


def test_a_damaged_journal_is_refused_and_refilled_after_a_wipe(restored_cluster: Cluster) -> None:
    """A node whose messages are gone does not start; after a wipe its peers refill it. A running node is not wiped."""
    fill(restored_cluster, [f"damage {number}" for number in range(500)])
    with client(restored_cluster.settings.facade.address) as http_client:
        stored = len(http_client.read())
    eventually(lambda: [stored] * 3 == [stored_messages(restored_cluster, number) for number in (1, 2, 3)])
    restored_cluster.kill([3])
    connection = sqlite3.connect(restored_cluster.journal(3), isolation_level=None)
    connection.execute("DELETE FROM messages WHERE arrival % 5 = 0")
    connection.close()
    with pytest.raises(FatalError, match="messages are gone"):
        restored_cluster.start([3], quiet)
    assert 0 == run_on_cluster(restored_cluster, "scripts.cluster", "wipe", "3", "-y").returncode
    restored_cluster.start([3], quiet)

    assert [stored] * 3 == [stored_messages(restored_cluster, number) for number in (1, 2, 3)]
    verified = run_on_cluster(restored_cluster, "scripts.cluster", "verify")
    assert 0 == verified.returncode, verified.stdout + verified.stderr
    assert 3 == verified.stdout.count("127.0.0.1:")
    wiped = run_on_cluster(restored_cluster, "scripts.cluster", "wipe", "-y")
    assert (1, "cluster: logging-1, logging-2, logging-3 is running: stop it first\n") == (
        wiped.returncode,
        wiped.stderr,
    )


def test_an_export_can_be_imported_into_another_cluster(cluster: Cluster, embedded_cluster: Cluster) -> None:
    """An embedded cluster gets all messages under the same ids, also if they are imported twice."""
    fill(cluster, [f"export {number}" for number in range(1_200)])
    exported = run_on_cluster(cluster, "scripts.export")
    for _ in range(2):
        imported = run_on_cluster(embedded_cluster, "scripts.import", stdin=exported.stdout)
        assert 0 == imported.returncode, imported.stderr
    again = run_on_cluster(embedded_cluster, "scripts.export")
    wrong = run_on_cluster(embedded_cluster, "scripts.import", stdin='{"id": 1}\n')
    compared = run_on_cluster(embedded_cluster, "scripts.cluster", "verify")

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
