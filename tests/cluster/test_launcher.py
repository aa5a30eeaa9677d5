"""Tests of scripts.cluster and scripts.launcher, on embedded clusters."""

import re
import socket
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from common.errors import FatalError
from common.hostport import split
from scripts.launcher.cluster import Cluster
from scripts.launcher.ports import write_config
from scripts.launcher.processes import ROOT
from tests.support.clusters import quiet
from tests.support.processes import run_on_cluster
from tests.support.servers import scrape
from tests.support.waiting import eventually


def bound(address: str) -> socket.socket | None:
    """A socket that listens at an address, or None while the port is taken."""
    try:
        return socket.create_server(split(address))
    except OSError:
        return None


def test_the_launcher_refuses_what_is_impossible(embedded_cluster: Cluster) -> None:
    """It refuses a second `up`, an unknown node, a running node, a dead node and a taken port, with the reason."""
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
        eventually(partial(bound, address)),  # the killed node may hold the port for some milliseconds
        pytest.raises(FatalError, match=f"logging-2 cannot start: {address} is taken by another process"),
    ):
        embedded_cluster.start([2], quiet)
    embedded_cluster.up(quiet)
    assert ["ready"] * 6 == [status.state for status in embedded_cluster.status()]


def test_a_node_that_cannot_start_is_named_with_the_reason(embedded_cluster: Cluster) -> None:
    """The error has the last line of the process that ended, its exit status and its log file."""
    embedded_cluster.down()
    embedded_cluster.journal(1).write_bytes(b"no database" * 1_000)

    with pytest.raises(
        FatalError, match=r"logging-1 ended: nodes: cannot use .*file is not a database \(exit status 1, see .*log\)"
    ):
        embedded_cluster.up(quiet)
    embedded_cluster.wipe([1])


def test_a_damaged_record_of_processes_is_a_fatal_error(embedded_cluster: Cluster) -> None:
    """The launcher does not guess which processes are its own."""
    record = embedded_cluster.folder / "processes.json"
    whole = record.read_bytes()
    record.write_bytes(b"{")
    with pytest.raises(FatalError, match=r"processes\.json is damaged"):
        embedded_cluster.status()
    record.write_bytes(whole)


def test_the_commands_report_what_they_did(embedded_cluster: Cluster) -> None:
    """`status` exits with 1 while a node is down, and errors are one sentence."""
    assert 0 == run_on_cluster(embedded_cluster, "scripts.cluster", "status").returncode
    killed = run_on_cluster(embedded_cluster, "scripts.cluster", "kill", "2")
    shown = run_on_cluster(embedded_cluster, "scripts.cluster", "status")
    started = run_on_cluster(embedded_cluster, "scripts.cluster", "start", "2")
    refused = run_on_cluster(embedded_cluster, "scripts.cluster", "kill", "7")
    up = run_on_cluster(embedded_cluster, "scripts.cluster", "up")
    down = run_on_cluster(embedded_cluster, "scripts.cluster", "down")

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


@pytest.mark.needs("ipv6")
def test_a_cluster_has_ipv6_addresses(tmp_path: Path) -> None:
    """Every part, also Hazelcast members and metrics, listens at and connects to an address in brackets."""
    path = tmp_path / "config.toml"
    write_config(path)
    path.write_text(path.read_text().replace("127.0.0.1", "[::1]"))
    with closing(Cluster(path)) as cluster:
        try:
            cluster.up(quiet)
            url = f"http://{cluster.settings.facade.address}"
            command = [sys.executable, "-m", "scripts.cli", "--url", url]
            subprocess.run([*command, "send", "six"], cwd=ROOT, check=True, capture_output=True, timeout=60)
            cluster.kill([1, 2])
            read = subprocess.run([*command, "read"], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60)
            members = [status.members for status in cluster.status() if status.part.name == "logging-3"]
            metrics = scrape(cluster.settings.metrics.logging_service[2])
        finally:
            cluster.down()

    assert read.stdout.endswith("  six\n")
    assert len(members) == 1
    assert "threefold_node_state" in metrics
