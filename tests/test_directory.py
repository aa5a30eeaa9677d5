"""Tests of registry.directory."""

import asyncio

import pytest

from common import config
from common.errors import ConfigError, InvalidMessageError
from common.wire import Code, Describe, Failure, Known, Lookup, Ping, State, Status
from registry.directory import Directory, parse_service_ips


@pytest.fixture
def directory() -> Directory:
    """The directory of the users' configuration."""
    return Directory.from_config(config.load())


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("messages-service", ("127.0.0.1:5001",)),
        ("logging-service", ("127.0.0.1:5002", "127.0.0.1:5003", "127.0.0.1:5004")),
        ("hazelcast-cluster-name", ("microservice",)),
        ("hazelcast-clients", ("127.0.0.1:5701", "127.0.0.1:5702", "127.0.0.1:5703")),
    ],
)
def test_a_name_is_answered_with_what_is_configured(directory: Directory, name: str, values: tuple[str, ...]) -> None:
    """Services and Hazelcast settings are found under the names of config.toml."""
    assert Known(name=name, values=values) == asyncio.run(directory.handle(Lookup(name=name)))


def test_an_unknown_name_lists_the_known_ones(directory: Directory) -> None:
    """The error helps whoever made a typing mistake."""
    reply = asyncio.run(directory.handle(Lookup(name="logging")))

    assert isinstance(reply, Failure)
    assert Code.UNKNOWN_NAME is reply.code
    assert (
        reply.reason
        == "unknown name 'logging'; known: messages-service, logging-service, hazelcast-cluster-name, hazelcast-clients"
    )


def test_a_ping_is_answered_and_a_foreign_request_refused(directory: Directory) -> None:
    """A registry says who it is, and does not answer for others."""
    assert Status(service="registry", state=State.READY) == asyncio.run(directory.handle(Ping()))
    with pytest.raises(InvalidMessageError, match="a registry does not answer Describe"):
        asyncio.run(directory.handle(Describe()))


def test_service_ips_replace_the_addresses_of_the_services_they_name() -> None:
    """--service-ips changes what it names and leaves the rest."""
    services = parse_service_ips("logging-service 127.0.0.1:6002, logging-service 127.0.0.1:6003")
    changed = config.with_service_ips(config.load(), services)

    assert ("127.0.0.1:6002", "127.0.0.1:6003") == changed.service_ips.logging_service
    assert ("127.0.0.1:5001",) == changed.service_ips.messages_service


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("logging 127.0.0.1:6002", "unknown service 'logging'; did you mean 'logging-service'?"),
        ("logging-service", "matching regex"),
        ("logging-service nowhere", "matching regex"),
        ("", "unknown service ''"),
    ],
)
def test_wrong_service_ips_are_one_sentence(text: str, told: str) -> None:
    """What cannot be understood is named."""
    with pytest.raises(ConfigError, match=told.replace("?", r"\?")):
        config.with_service_ips(config.load(), parse_service_ips(text))
