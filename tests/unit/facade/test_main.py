"""Tests of facade.__main__: a facade in a process of its own."""

import contextlib
import http.client
import json
import socket
import subprocess
import sys
from pathlib import Path

from common.hostport import split
from scripts.launcher.ports import free_addresses, write_config
from scripts.launcher.processes import ROOT
from tests.support.waiting import eventually


def test_a_facade_with_few_descriptors_survives_more_clients_than_it_has(tmp_path: Path) -> None:
    """It accepts fewer connections, logs that, and refuses further ones with a response."""
    (address,) = free_addresses(1)
    write_config(tmp_path / "config.toml")
    port = address.partition(":")[2]
    command = f"ulimit -n 200 && exec {sys.executable} -m facade --port {port} --config {tmp_path / 'config.toml'}"
    log = tmp_path / "log"
    with log.open("w") as errors, subprocess.Popen(["sh", "-c", command], cwd=ROOT, stderr=errors) as facade:
        try:
            eventually(lambda: get_response(address, "/livez") == (200, b'{"status":"alive"}'))
            assert 100 == json.loads(get_response(address, "/v1/limits")[1])["connections"]
            with contextlib.ExitStack() as stack:
                silent = [socket.create_connection(split(address), timeout=10.0) for _ in range(100)]
                refusal = get_response(address, "/facade")[1]
                silent += [socket.create_connection(split(address), timeout=10.0) for _ in range(200)]
                for one in silent:
                    stack.enter_context(one)
                eventually(lambda: get_response(address, "/livez")[0] == 200)
        finally:
            facade.terminate()
            assert 0 == facade.wait(20.0)
    assert b"too many connections" in refusal
    assert "fewer connections are taken" in log.read_text()


def get_response(address: str, path: str) -> tuple[int, bytes]:
    """The status and body of the response to a GET; (0, b"") if there is none."""
    connection = http.client.HTTPConnection(address, timeout=5.0)
    with contextlib.closing(connection):
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        except OSError:
            return 0, b""
