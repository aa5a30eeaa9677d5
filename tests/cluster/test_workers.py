"""Tests of the worker processes of a facade, beside a real cluster."""

import http.client
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from common.hostport import split
from scripts.client.connection import HttpClient, client
from scripts.launcher.cluster import Cluster
from scripts.launcher.ports import free_addresses
from scripts.launcher.processes import ROOT
from tests.support.clusters import alive
from tests.support.waiting import eventually


@pytest.fixture
def facade(embedded_cluster: Cluster) -> Iterator[tuple[psutil.Process, str]]:
    """A second facade of a cluster, with three workers, and its address."""
    (address,) = free_addresses(1)
    command = [sys.executable, "-m", "facade", "--config", str(embedded_cluster.path)]
    with subprocess.Popen([*command, "--port", str(split(address)[1]), "--workers", "3"], cwd=ROOT) as started:
        process = psutil.Process(started.pid)
        eventually(lambda: len(process.children()) == 3 and answers(address))
        workers = process.children()
        try:
            yield process, address
        finally:
            started.kill()
            started.wait()
            eventually(lambda: not any(map(alive, workers)))


def answers(address: str) -> bool:
    """Whether a message is stored."""
    try:
        with client(address) as http_client:
            return http_client.post("x").status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False


def test_a_worker_that_dies_is_replaced(facade: tuple[psutil.Process, str]) -> None:
    """The others answer meanwhile."""
    process, address = facade
    (victim, *rest) = process.children()
    victim.kill()
    assert all(answers(address) for _ in range(20))
    eventually(lambda: len(process.children()) == 3)
    assert victim.pid not in {worker.pid for worker in process.children()}
    assert {worker.pid for worker in rest} < {worker.pid for worker in process.children()}


def test_a_stop_ends_all_workers(facade: tuple[psutil.Process, str]) -> None:
    """Each answers what it has accepted; then all are gone, and the exit code is 0."""
    process, address = facade
    workers = process.children()
    kept = [HttpClient(address) for _ in range(12)]
    assert {200} == {one.post("x").status for one in kept}
    process.send_signal(signal.SIGTERM)
    assert 0 == process.wait(10.0)
    assert not any(map(alive, workers))
    for one in kept:
        one.close()


def test_workers_die_with_their_parent(facade: tuple[psutil.Process, str]) -> None:
    """All workers end when the parent is killed."""
    process, _ = facade
    workers = process.children()
    process.kill()
    eventually(lambda: not any(map(alive, workers)))
