"""Tests of scripts.launcher.ports."""

import socket
from pathlib import Path

from common import config, hostport
from scripts.launcher.ports import free_addresses, taken, write_config


def test_a_port_is_taken_while_a_socket_listens_there() -> None:
    """Once the socket is closed the port is free."""
    (address,) = free_addresses(1)
    with socket.create_server(hostport.split(address)):
        assert taken(address)
    assert not taken(address)


def test_a_port_is_given_away_once() -> None:
    """Until RESERVED_S have passed no caller gets it again, even if nothing listens there yet."""
    given = [address for _ in range(200) for address in free_addresses(10)]

    assert len(given) == len({*given})


def test_free_addresses_differ() -> None:
    """All of them can be used at once."""
    found = free_addresses(20)

    assert 20 == len({*found})
    assert [] == [address for address in found if taken(address)]


def test_a_written_configuration_is_valid(tmp_path: Path) -> None:
    """It has what was asked for, and no address twice."""
    write_config(tmp_path / "config.toml", nodes=5, registries=2, more='[storage]\nengine = "embedded"\n')
    settings = config.load(tmp_path / "config.toml")
    addresses = [
        *settings.service_ips.logging_service,
        *settings.service_ips.messages_service,
        *settings.hazelcast.clients,
        *settings.registry.addresses,
        settings.facade.address,
    ]

    assert (5, 2, "embedded") == (
        len(settings.service_ips.logging_service),
        len(settings.registry.addresses),
        settings.storage.engine,
    )
    assert len(addresses) == len({*addresses})
