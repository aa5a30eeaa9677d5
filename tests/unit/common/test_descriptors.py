"""Tests of common.descriptors, and of a facade that may have few."""

import contextlib
import http.client
import json
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.typing import EventDict

from common import descriptors
from common.config import split
from scripts.launcher.ports import free_addresses, write_config
from scripts.launcher.processes import ROOT
from tests.support.waiting import eventually


@pytest.fixture
def few() -> Iterator[None]:
    """The system allows 4,096."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (4_096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("few")
def test_clients_have_what_is_left(logged: list[EventDict]) -> None:
    """Less than is wanted is told."""
    assert 3_072 == descriptors.for_clients(3_072)
    assert [] == logged
    assert 3_072 == descriptors.for_clients(3_073)
    assert [("warning", 3_072, 3_073)] == [(line["log_level"], line["taken"], line["limit"]) for line in logged]


def test_only_a_connection_to_the_port_is_shut_down() -> None:
    """The number may be that of something else by now."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
        server.accept()[0] as taken,
        Path("/dev/null").open() as file,
        socket.socket(socket.AF_UNIX) as unnamed,
    ):
        port = server.getsockname()[1]
        for other in (client.fileno(), file.fileno(), unnamed.fileno(), 10_000):
            descriptors.shut_down(other, port)
        client.sendall(b"x")
        assert b"x" == taken.recv(1)
        assert "" == file.read()

        descriptors.shut_down(taken.fileno(), port)
        assert b"" == client.recv(1)


def test_a_facade_that_may_have_few_answers_beside_more_clients_than_that(tmp_path: Path) -> None:
    """It takes fewer connections, says so, and goes on; what is over that is told so."""
    (address,) = free_addresses(1)
    write_config(tmp_path / "config.toml")
    port = address.partition(":")[2]
    command = f"ulimit -n 200 && exec {sys.executable} -m facade --port {port} --config {tmp_path / 'config.toml'}"
    log = tmp_path / "log"
    with log.open("w") as errors, subprocess.Popen(["sh", "-c", command], cwd=ROOT, stderr=errors) as facade:
        try:
            eventually(lambda: _get(address, "/livez") == (200, b'{"status":"alive"}'))
            assert 100 == json.loads(_get(address, "/v1/limits")[1])["connections"]
            with contextlib.ExitStack() as stack:
                silent = [socket.create_connection(split(address), timeout=10.0) for _ in range(100)]
                told = _get(address, "/facade")[1]
                silent += [socket.create_connection(split(address), timeout=10.0) for _ in range(200)]
                for one in silent:
                    stack.enter_context(one)
                eventually(lambda: _get(address, "/livez")[0] == 200)
        finally:
            facade.terminate()
            assert 0 == facade.wait(20.0)
    assert b"too many connections" in told
    assert "fewer connections are taken" in log.read_text()


def _get(address: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(address, timeout=5.0)
    with contextlib.closing(connection):
        try:
            connection.request("GET", path)
            answered = connection.getresponse()
            return answered.status, answered.read()
        except OSError:
            return 0, b""
