"""Tests of whole clusters: real processes, real Hazelcast members, real kills."""

import http.client
import json
import re
import time
from contextlib import ExitStack
from functools import partial

import psutil

from common.errors import RefusedError
from common.hostport import split
from common.protocol.messages import Lookup, LookupResult, Page, Read, State
from common.rpc.pooled import PooledTransport
from common.rpc.transport import ask
from scripts.client.connection import HttpClient, client
from scripts.client.writers import Writers
from scripts.launcher.cluster import Cluster
from scripts.launcher.ports import free_addresses
from tests.support.clusters import alive, fill, quiet
from tests.support.processes import started, wait_for
from tests.support.waiting import eventually


def facade(cluster: Cluster) -> str:
    """host:port of the facade."""
    return cluster.settings.facade.address


def test_two_nodes_die_under_load_and_nothing_is_lost(restored_cluster: Cluster) -> None:
    """The oldest member and another one are killed at once while clients post: no error, no loss, order is kept."""
    with Writers(facade(restored_cluster), 4, "writer") as writers:
        writers.wait_for(500, timeout_s=20.0)
        killed_at = time.monotonic()
        restored_cluster.kill([1, 2])
        writers.wait_for(500, timeout_s=20.0)
    sent = [text for _, text in writers.acknowledged]
    with client(facade(restored_cluster)) as reader:
        read = [text for text in reader.read() if text.startswith("writer-")]

    assert [] == writers.failures
    assert len(sent) >= 1_000
    assert sorted(sent) == sorted(read)
    for number in range(4):  # each client posts one message after the other, so its messages are in order
        own = [int(text.rpartition("-")[2]) for text in read if text.startswith(f"writer-{number}-")]
        assert sorted(own) == own
    assert writers.longest_gap_ms(killed_at) < 10_000  # torture measures the gap; here no client may give up
    assert ["ready"] == [status.state for status in restored_cluster.status() if status.part.name == "logging-3"]


def test_a_restarted_node_has_everything(restored_cluster: Cluster) -> None:
    """Once the restarted node is ready the other two nodes may die, and nothing is lost."""
    with client(facade(restored_cluster)) as http_client:
        texts = [f"restart-{number}" for number in range(50)]
        assert {200} == {http_client.post(text).status for text in texts}
        restored_cluster.kill([1])
        restored_cluster.start([1], quiet)
        restored_cluster.kill([2, 3])

        assert texts == http_client.read()[-50:]


def test_nodes_outside_the_configuration_join_and_leave(cluster: Cluster) -> None:
    """A fourth and a fifth node with members join by one command each, and get requests until they leave.

    They have the earlier messages, too, and what they accepted stays in the log.
    """
    addresses = free_addresses(4)
    nodes, sent = set(addresses[:2]), ["join-0"]

    def taken_by(http_client: HttpClient) -> set[str]:
        sent.extend(f"join-{len(sent) + number}" for number in range(60))
        return {http_client.post(text).headers["x-logging-node"] for text in sent[-60:]}

    with ExitStack() as stack:
        http_client = stack.enter_context(client(facade(cluster)))
        (earliest, *_) = http_client.read() or ["join-0"]
        http_client.post("join-0")
        for node, member in zip(addresses[:2], addresses[2:], strict=True):
            command = ["nodes", "logging", "--port", node.partition(":")[2], "--member", member]
            stack.enter_context(started(*command, "--config", str(cluster.path)))
        eventually(lambda: nodes <= taken_by(http_client), timeout_s=60.0)
        assert {5} == {status.members for status in cluster.status() if status.part.member}
        transport = PooledTransport()
        stack.callback(transport.close)
        for node in nodes:
            assert earliest == eventually(partial(first_message, transport, node))
    with client(facade(cluster)) as http_client:
        assert set(cluster.settings.service_ips.logging_service) == taken_by(http_client)
        assert sorted(sent) == sorted(text for text in http_client.read() if text.startswith("join-"))


def first_message(transport: PooledTransport, node: str) -> str | None:
    """The first message that a node returns; None while it joins: on a busy machine it may be fenced and join again."""
    try:
        return ask(transport, node, Read(after="", limit=1), Page, timeout_s=2.0).entries[0].msg
    except RefusedError:
        return None


def listed(transport: PooledTransport, registry: str) -> tuple[str, ...]:
    """The logging nodes that a registry lists; none while it is starting."""
    try:
        return ask(transport, registry, Lookup(name="logging-service"), LookupResult, timeout_s=1.0).values
    except RefusedError:
        return ()


def test_a_killed_node_is_no_longer_listed(embedded_cluster: Cluster, transport: PooledTransport) -> None:
    """The registry stops listing a dead node by itself, and lists it again when it is back."""
    (registry,) = embedded_cluster.settings.registry.addresses
    nodes = embedded_cluster.settings.service_ips.logging_service

    eventually(lambda: listed(transport, registry) == nodes)
    embedded_cluster.kill([2])
    eventually(lambda: listed(transport, registry) == (nodes[0], nodes[2]))
    embedded_cluster.start([2], quiet)
    eventually(lambda: listed(transport, registry) == nodes)


def test_a_restarted_registry_lists_the_right_nodes_within_a_heartbeat(
    embedded_cluster: Cluster, transport: PooledTransport
) -> None:
    """A node that died while the registry was away is not listed, since the others have fenced it."""
    (registry,) = embedded_cluster.settings.registry.addresses
    nodes = embedded_cluster.settings.service_ips.logging_service
    (pid,) = [status.pid for status in embedded_cluster.status() if status.part.name == "registry-1"]
    psutil.Process(pid).kill()
    embedded_cluster.kill([2])
    with client(facade(embedded_cluster)) as http_client:
        assert 200 == http_client.post("while the registry is dead").status
    with started("registry", "--port", registry.rpartition(":")[2], "--config", str(embedded_cluster.path)):
        wait_for(transport, registry, State.READY)
        began = time.monotonic()
        eventually(lambda: (nodes[0], nodes[2]) == listed(transport, registry))
        assert time.monotonic() - began < 5.0  # one heartbeat, and time for a busy machine


def test_a_long_log_is_streamed_in_order_with_flat_memory(cluster: Cluster) -> None:
    """8,000 messages are read in order again and again, and the memory of the facade does not grow."""
    texts = [f"long-{number:05d}-" + "x" * 250 for number in range(8_000)]

    fill(cluster, texts)
    (pid,) = [status.pid for status in cluster.status() if status.part.name == "facade"]
    process = psutil.Process(pid)
    with client(facade(cluster)) as reader:
        assert texts == [text for text in reader.read() if text.startswith("long-")]
        for _ in range(25):  # until memory is stable
            reader.read()
        before = process.memory_info().rss
        for _ in range(15):
            assert texts == [text for text in reader.read() if text.startswith("long-")]

    assert process.memory_info().rss - before < 5_000_000  # bytes; all texts of all reads together are 33,000,000


def test_a_connection_survives_bad_requests(cluster: Cluster) -> None:
    """Each mistake of a client is a 4xx with a problem document, and the connection can be used again."""
    connection = http.client.HTTPConnection(*split(facade(cluster)), timeout=15.0)
    for method, path, body, kind, status in (
        ("POST", "/facade", b"{", "application/json", 400),
        ("POST", "/facade", b'{"msg": ""}', "application/json", 400),
        ("POST", "/facade", b"msg=hi", "application/x-www-form-urlencoded", 415),
        ("POST", "/facade", json.dumps({"msg": "x" * 70_000}).encode(), "application/json", 413),
        ("PATCH", "/facade", b"", "application/json", 405),
        ("GET", "/no%ffwhere", b"", "application/json", 404),
    ):
        connection.request(method, path, body, {"Content-Type": kind})
        response = connection.getresponse()
        document = json.loads(response.read())
        assert (status, "application/problem+json") == (response.status, response.getheader("content-type"))
        assert ("failure" if path == "/facade" else status) == document["status"]
        assert document["message"]
    connection.request("POST", "/facade", b'{"msg": "fine"}', {"Content-Type": "application/json"})
    assert 200 == connection.getresponse().status
    connection.close()


def test_embedded_nodes_replicate_and_keep_messages(embedded_cluster: Cluster) -> None:
    """Without Hazelcast any node has what the others stored, also after a restart of all nodes."""
    texts = [f"kept-{number}" for number in range(20)]
    with client(facade(embedded_cluster)) as http_client:
        assert {200} == {http_client.post(text).status for text in texts}
    embedded_cluster.down()
    embedded_cluster.up(quiet)
    embedded_cluster.kill([1, 3])
    with client(facade(embedded_cluster)) as http_client:
        assert texts == http_client.read()[-20:]


def test_a_facade_that_is_stopped_answers_accepted_requests(embedded_cluster: Cluster) -> None:
    """After SIGTERM under load every accepted request gets its whole answer."""
    (pid,) = [status.pid for status in embedded_cluster.status() if status.part.name == "facade"]
    process = psutil.Process(pid)
    with Writers(facade(embedded_cluster), 4, "w") as writers:
        writers.wait_for(100, timeout_s=20.0)
        process.terminate()
        eventually(lambda: not alive(process))
    answered = [text for _, text in writers.acknowledged]

    broken = [failure for failure in writers.failures if not re.search("refused|without response|reset", failure)]
    assert [] == broken
    embedded_cluster.up(quiet)
    with client(facade(embedded_cluster)) as reader:
        assert set(answered) <= set(reader.read())


def test_all_ports_listen_on_tcp(cluster: Cluster) -> None:
    """Tools that find processes by port find each process of the cluster."""
    settings = cluster.settings
    expected = {
        *settings.service_ips.messages_service,
        *settings.service_ips.logging_service,
        *settings.hazelcast.clients,
        *settings.registry.addresses,
        settings.facade.address,
    }
    listening = {
        f"{found.laddr.ip.removeprefix('::ffff:')}:{found.laddr.port}"
        for found in psutil.net_connections("tcp")
        if found.laddr and found.status == psutil.CONN_LISTEN
    }

    assert set() == expected - listening


def test_the_registry_returns_the_hazelcast_settings(cluster: Cluster, transport: PooledTransport) -> None:
    """Nodes look up the addresses of the members by the name of the setting."""
    registry = cluster.settings.registry.addresses[0]
    known = ask(transport, registry, Lookup(name="hazelcast-clients"), LookupResult, timeout_s=1.0)

    assert cluster.settings.hazelcast.clients == known.values
