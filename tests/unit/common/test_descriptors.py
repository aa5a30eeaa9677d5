"""Tests of common.descriptors."""

import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.typing import EventDict

from common import descriptors


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """The system allows 4,096 open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (4_096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("few_descriptors")
def test_clients_get_the_descriptors_that_are_left(logged: list[EventDict]) -> None:
    """If these are fewer than the configured limit, that is logged."""
    assert 3_072 == descriptors.for_clients(3_072)
    assert [] == logged
    assert 3_072 == descriptors.for_clients(3_073)
    assert [("warning", 3_072, 3_073)] == [(line["log_level"], line["taken"], line["limit"]) for line in logged]


def test_only_a_connection_to_the_port_is_shut_down() -> None:
    """A descriptor may belong to something else by now, which must not be shut down."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
        server.accept()[0] as accepted,
        Path("/dev/null").open() as file,
        socket.socket(socket.AF_UNIX) as unnamed,
    ):
        port = server.getsockname()[1]
        for other in (client.fileno(), file.fileno(), unnamed.fileno(), 10_000):
            descriptors.shut_down(other, port)
        client.sendall(b"x")
        assert b"x" == accepted.recv(1)
        assert "" == file.read()

        descriptors.shut_down(accepted.fileno(), port)
        assert b"" == client.recv(1)
