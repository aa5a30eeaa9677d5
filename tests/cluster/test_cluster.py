"""Tests of whole clusters: real processes, real members, real kills."""

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import psutil
import pytest

from common.config import split
from common.errors import FatalError, RefusedError
from common.protocol.messages import Lookup, LookupResult, Page, Read, State
from common.rpc.pooled import PooledTransport
from common.rpc.transport import ask
from scripts.client.connection import HttpClient, client
from scripts.client.writers import Writers
from scripts.launcher.cluster import Cluster
from scripts.launcher.ports import free_addresses
from scripts.launcher.processes import ROOT
from tests.chaos.faults.stage import quiet
from tests.support.clusters import alive, fill
from tests.support.processes import started, wait_for
from tests.support.waiting import eventually


def facade(cluster: Cluster) -> str:
    """host:port of the facade."""
    return cluster.settings.facade.address


def test_two_nodes_and_members_die_under_load_and_nothing_is_lost(own_cluster: Cluster) -> None:
    """The oldest member and another one are killed at once while four clients post: no error, no loss, in order."""
    with Writers(facade(own_cluster), 4, "writer") as writers:
        writers.wait_for(500, timeout_s=20.0)
        killed_at = time.monotonic()
        own_cluster.kill([1, 2])
        writers.wait_for(500, timeout_s=20.0)
    sent = [text for _, text in writers.acknowledged]
    with client(facade(own_cluster)) as reader:
        read = reader.read()

    assert [] == writers.failures
    assert len(sent) >= 1_000
    assert sorted(sent) == sorted(read)
    for number in range(4):  # each client posted one after the other, so its messages are in that order
        own = [int(text.rpartition("-")[2]) for text in read if text.startswith(f"writer-{number}-")]
        assert sorted(own) == own
    assert writers.longest_gap_ms(killed_at) < 10_000  # the figure is measured elsewhere; here nobody gave up
    assert ["ready"] == [status.state for status in own_cluster.status() if status.part.name == "logging-3"]


def test_killed_nodes_come_back_and_have_everything(own_cluster: Cluster) -> None:
    """A restarted node is ready when all backups are in place: then the others may die, and nothing is lost."""
    with client(facade(own_cluster)) as http_client:
        texts = [f"m{number}" for number in range(50)]
        assert {200} == {http_client.post(text).status for text in texts}
        own_cluster.kill([1])
        own_cluster.start([1], quiet)
        own_cluster.kill([2, 3])

        assert texts == http_client.read()


def test_nodes_that_nobody_configured_join_and_leave(own_cluster: Cluster, tmp_path: Path) -> None:
    """One command each brings a fourth and a fifth node with a member; they get requests, and none when they left.

    What they took stays, and what was there before is read from them, too.
    """
    addresses = free_addresses(4)
    nodes, sent = set(addresses[:2]), ["before"]

    def taken_by(http_client: HttpClient) -> set[str]:
        sent.extend(f"m{len(sent) + number}" for number in range(60))
        return {http_client.post(text).headers["x-logging-node"] for text in sent[-60:]}

    with ExitStack() as stack:
        http_client = stack.enter_context(client(facade(own_cluster)))
        http_client.post("before")
        for node, member in zip(addresses[:2], addresses[2:], strict=True):
            command = ["nodes", "logging", "--port", node.partition(":")[2], "--member", member]
            stack.enter_context(started(*command, "--config", str(tmp_path / "config.toml")))
        eventually(lambda: nodes <= taken_by(http_client), timeout_s=60.0)
        assert {5} == {status.members for status in own_cluster.status() if status.part.member}
        transport = PooledTransport()
        stack.callback(transport.close)
        for node in nodes:
            page = ask(transport, node, Read(after="", limit=1), Page, timeout_s=2.0)
            assert ["before"] == [entry.msg for entry in page.entries]
    with client(facade(own_cluster)) as http_client:
        assert set(own_cluster.settings.service_ips.logging_service) == taken_by(http_client)
        assert sorted(sent) == sorted(http_client.read())


def served(transport: PooledTransport, registry: str) -> tuple[str, ...]:
    """The logging nodes that a registry lists; none while it starts."""
    try:
        return ask(transport, registry, Lookup(name="logging-service"), LookupResult, timeout_s=1.0).values
    except RefusedError:
        return ()


def test_a_killed_node_is_listed_no_more(embedded_cluster: Cluster, transport: PooledTransport) -> None:
    """The registry notices by itself that a node is gone, and that it is back."""
    (registry,) = embedded_cluster.settings.registry.addresses
    nodes = embedded_cluster.settings.service_ips.logging_service

    eventually(lambda: served(transport, registry) == nodes)
    embedded_cluster.kill([2])
    eventually(lambda: served(transport, registry) == (nodes[0], nodes[2]))
    embedded_cluster.start([2], quiet)
    eventually(lambda: served(transport, registry) == nodes)


def test_a_registry_that_restarts_is_right_within_a_heartbeat(
    embedded_cluster: Cluster, transport: PooledTransport, tmp_path: Path
) -> None:
    """It was away, and a node died meanwhile: a heartbeat later it lists the living, which have fenced that one."""
    (registry,) = embedded_cluster.settings.registry.addresses
    nodes = embedded_cluster.settings.service_ips.logging_service
    (pid,) = [status.pid for status in embedded_cluster.status() if status.part.name == "registry-1"]
    psutil.Process(pid).kill()
    embedded_cluster.kill([2])
    with client(facade(embedded_cluster)) as http_client:
        assert 200 == http_client.post("while the registry is dead").status
    with started("registry", "--port", registry.rpartition(":")[2], "--config", str(tmp_path / "config.toml")):
        wait_for(transport, registry, State.READY)
        began = time.monotonic()
        eventually(lambda: (nodes[0], nodes[2]) == served(transport, registry))
        assert time.monotonic() - began < 2.0  # a heartbeat, and what a busy machine takes


def test_a_long_log_is_streamed_in_order_and_the_facade_stays_small(cluster: Cluster) -> None:
    """8,000 messages are read whole and in order, again and again, and the facade's memory does not grow."""
    texts = [f"long-{number:05d}-" + "x" * 250 for number in range(8_000)]

    fill(cluster, texts)
    (pid,) = [status.pid for status in cluster.status() if status.part.name == "facade"]
    process = psutil.Process(pid)
    with client(facade(cluster)) as reader:
        assert texts == [text for text in reader.read() if text.startswith("long-")]
        for _ in range(25):  # until each of 16 threads has served one
            reader.read()
        before = process.memory_info().rss
        for _ in range(15):
            assert texts == [text for text in reader.read() if text.startswith("long-")]

    assert process.memory_info().rss - before < 5_000_000  # bytes; all texts of all reads together are 33,000,000


def test_a_bad_request_is_told_and_the_next_one_works(cluster: Cluster) -> None:
    """What a client does wrong is a 4xx in the compatible form, over a real connection that goes on."""
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
        assert "failure" == document["status"]
        assert document["message"]
    connection.request("POST", "/facade", b'{"msg": "fine"}', {"Content-Type": "application/json"})
    assert 200 == connection.getresponse().status
    connection.close()


def _bound(address: str) -> socket.socket | None:
    """A socket that listens there, once it is free."""
    try:
        return socket.create_server(split(address))
    except OSError:
        return None


def test_one_round_of_a_cluster_that_is_up_and_down(embedded_cluster: Cluster) -> None:
    """What is refused is said: up twice, a node that does not exist, one that runs, one that is dead, a taken port."""
    with pytest.raises(FatalError, match="the cluster is up already"):
        embedded_cluster.up(quiet)
    with pytest.raises(FatalError, match="there is no logging node 4: they are numbered 1 to 3"):
        embedded_cluster.kill([1, 4])
    with pytest.raises(FatalError, match="logging-2 is running already"):
        embedded_cluster.start([2], quiet)
    assert ["ready"] * 6 == [status.state for status in embedded_cluster.status()]
    embedded_cluster.kill([2])
    with pytest.raises(FatalError, match="logging-2 is not running"):
        embedded_cluster.kill([2, 3])
    assert ["ready"] * 3 + [""] + ["ready"] * 2 == [status.state for status in embedded_cluster.status()]
    address = embedded_cluster.settings.service_ips.logging_service[1]
    with (
        eventually(partial(_bound, address)),  # the killed node may hold it for some milliseconds
        pytest.raises(FatalError, match=f"logging-2 cannot start: {address} is taken by another process"),
    ):
        embedded_cluster.start([2], quiet)
    embedded_cluster.up(quiet)
    assert ["ready"] * 6 == [status.state for status in embedded_cluster.status()]


def test_a_node_that_cannot_start_is_named_with_its_last_words(embedded_cluster: Cluster) -> None:
    """When a process ends while it is awaited, the launcher says which, and what its log said last."""
    embedded_cluster.down()
    embedded_cluster.journal(1).write_bytes(b"no database" * 1_000)

    with pytest.raises(
        FatalError, match=r"logging-1 ended: nodes: cannot use .*file is not a database \(exit status 1, see .*log\)"
    ):
        embedded_cluster.up(quiet)


def test_a_damaged_record_is_one_sentence(embedded_cluster: Cluster, tmp_path: Path) -> None:
    """The launcher does not guess which processes are its own."""
    record = tmp_path / "data" / "processes.json"
    whole = record.read_bytes()
    record.write_bytes(b"{")
    with pytest.raises(FatalError, match=r"processes\.json is damaged"):
        embedded_cluster.status()
    record.write_bytes(whole)


def test_embedded_nodes_replicate_what_they_store_and_keep_it(embedded_cluster: Cluster) -> None:
    """Without Hazelcast: any node reads what any other stored, also after a restart of all."""
    with client(facade(embedded_cluster)) as http_client:
        assert {200} == {http_client.post(f"m{number}").status for number in range(20)}
    embedded_cluster.down()
    embedded_cluster.up(quiet)
    embedded_cluster.kill([1, 3])
    with client(facade(embedded_cluster)) as http_client:
        assert [f"m{number}" for number in range(20)] == http_client.read()


def test_a_facade_that_is_told_to_stop_answers_what_it_accepted(embedded_cluster: Cluster) -> None:
    """SIGTERM under load: every request that was accepted gets its whole answer, and the exit code is 0."""
    (pid,) = [status.pid for status in embedded_cluster.status() if status.part.name == "facade"]
    process = psutil.Process(pid)
    with Writers(facade(embedded_cluster), 4, "w") as writers:
        writers.wait_for(100, timeout_s=20.0)
        process.terminate()
        eventually(lambda: not alive(process))
    answered = [text for _, text in writers.acknowledged]

    broken = [failure for failure in writers.failures if not re.search("Refused|RemoteDisconnected|Reset", failure)]
    assert [] == broken
    embedded_cluster.up(quiet)
    with client(facade(embedded_cluster)) as reader:
        assert set(answered) <= set(reader.read())


def cli(cluster_folder: Path, *arguments: str, program: str = "scripts.cluster") -> subprocess.CompletedProcess[str]:
    """A command of a person, on the cluster of a folder."""
    return subprocess.run(
        [sys.executable, "-m", program, *arguments],
        cwd=ROOT,
        env=os.environ | {"THREEFOLD_CONFIG": str(cluster_folder / "config.toml"), "COLUMNS": "140"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_commands_show_kill_start_and_stop(embedded_cluster: Cluster, tmp_path: Path) -> None:
    """Status exits with 1 while a node is down; kill, start and down say what they did."""
    assert 0 == cli(tmp_path, "status").returncode
    killed = cli(tmp_path, "kill", "2")
    shown = cli(tmp_path, "status")
    started = cli(tmp_path, "start", "2")
    refused = cli(tmp_path, "kill", "7")
    up = cli(tmp_path, "up")
    down = cli(tmp_path, "down")

    assert re.match(r"killed logging node 2 \(processes \d+\)\n", killed.stdout)
    assert 1 == shown.returncode
    assert re.search(r"logging-2 .* down ", shown.stdout)
    assert (0, True) == (started.returncode, "ready" in started.stdout)
    assert (1, "cluster: there is no logging node 7: they are numbered 1 to 3\n") == (
        refused.returncode,
        refused.stderr,
    )
    assert (1, "cluster: the cluster is up already: `status` shows it, `down` ends it\n") == (up.returncode, up.stderr)
    assert (0, "the cluster is down\n") == (down.returncode, down.stdout)
    assert [None] * 6 == [status.pid for status in embedded_cluster.status()]


def test_the_demo_tells_its_story_and_leaves_nothing_behind(cluster: Cluster) -> None:
    """`python -m scripts.demo` runs beside another cluster, ends with 0, and all that it started is gone."""
    del cluster
    ended = cli(ROOT, program="scripts.demo")

    assert 0 == ended.returncode, ended.stdout + ended.stderr
    assert re.search(r"longest gap that a client saw at the kill: \d+ ms", ended.stdout)
    assert re.search(r"\d+ acknowledged, \d+ read, 0 lost, 0 doubled, with two of three nodes dead", ended.stdout)
    assert [] == [one.pid for one in psutil.process_iter(["cmdline"]) if "threefold-demo" in str(one.info["cmdline"])]


def test_the_demo_can_be_kept_and_ended() -> None:
    """--keep leaves the cluster up, and prints the lines that use and end it."""
    ended = cli(ROOT, "--keep", "--engine", "embedded", program="scripts.demo")
    (path,) = re.findall(r"\S+python\S* -m scripts\.cluster --config (\S+) down", ended.stdout)
    kept = Cluster(Path(path))
    try:
        assert 0 == ended.returncode
        (url,) = re.findall(r"^curl (http://\S+)$", ended.stdout, re.MULTILINE)
        assert f"http://{facade(kept)}/facade" == url
        with client(facade(kept)) as reader:
            assert "msg1" in reader.read()
    finally:
        kept.down()
        kept.close()
        shutil.rmtree(Path(path).parent)


def test_all_ports_listen_on_tcp(cluster: Cluster) -> None:
    """Tools that find processes by port find each of ours."""
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


def test_the_registry_answers_for_hazelcast_too(cluster: Cluster, transport: PooledTransport) -> None:
    """The settings that nodes take from it are there under their names."""
    registry = cluster.settings.registry.addresses[0]
    known = ask(transport, registry, Lookup(name="hazelcast-clients"), LookupResult, timeout_s=1.0)

    assert cluster.settings.hazelcast.clients == known.values
