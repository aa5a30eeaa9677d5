"""Tests of registry.directory."""

import asyncio

import pytest

from common import config
from common.discovery.leases import LEASE_S
from common.errors import ConfigError, InvalidMessageError
from common.protocol.admin import Inspect, Leases, ListLeases, Report
from common.protocol.messages import (
    Code,
    Deregister,
    Describe,
    Failure,
    LeaseGranted,
    Lookup,
    LookupResult,
    Ping,
    Register,
    State,
    Status,
)
from common.protocol.replication import NO_SET, Bootstrap, Fence, Identity, InSyncSet, Member, Renew, Renewed, Standing
from registry.directory import ADDRESSES, FIRST_LEASE_S, Directory, parse_service_ips
from registry.in_sync import FIRST_RENEWALS_S


@pytest.fixture
def directory() -> Directory:
    """The directory of the default configuration."""
    return Directory.from_config(config.load())


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("messages-service", ("127.0.0.1:5001",)),
        ("configured-logging-service", ("127.0.0.1:5002", "127.0.0.1:5003", "127.0.0.1:5004")),
        ("hazelcast-cluster-name", ("microservice",)),
        ("hazelcast-clients", ("127.0.0.1:5701", "127.0.0.1:5702", "127.0.0.1:5703")),
    ],
)
def test_a_lookup_returns_the_configured_values(directory: Directory, name: str, values: tuple[str, ...]) -> None:
    """Services and Hazelcast settings are found under the names of config.toml."""
    assert LookupResult(name=name, values=values) == asyncio.run(directory.handle(Lookup(name=name)))


def test_the_error_for_an_unknown_name_lists_the_known_names(directory: Directory) -> None:
    """The error helps somebody who mistyped a name."""
    reply = asyncio.run(directory.handle(Lookup(name="logging")))

    assert isinstance(reply, Failure)
    assert Code.UNKNOWN_NAME is reply.code
    services, settings = "messages-service, logging-service, facade", "hazelcast-cluster-name, hazelcast-clients"
    known = f"{services}, {settings}, configured-logging-service"
    assert f"unknown name 'logging'; known: {known}" == reply.reason


def test_a_ping_is_answered_and_a_foreign_request_refused(directory: Directory) -> None:
    """A registry reports its state, and refuses requests that are for other services."""
    assert Status(service="registry", state=State.STARTING) == asyncio.run(directory.handle(Ping()))
    with pytest.raises(InvalidMessageError, match="a registry does not answer Describe"):
        asyncio.run(directory.handle(Describe()))


def test_service_ips_replace_the_addresses_of_the_services_they_name() -> None:
    """--service-ips changes the services that it names, and no others."""
    services = parse_service_ips("logging-service 127.0.0.1:6002, logging-service 127.0.0.1:6003")
    changed = config.with_service_ips(config.load(), services)

    assert ("127.0.0.1:6002", "127.0.0.1:6003") == changed.service_ips.logging_service
    assert ("127.0.0.1:5001",) == changed.service_ips.messages_service


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("logging 127.0.0.1:6002", "unknown service 'logging'; did you mean 'logging-service'?"),
        ("logging-service", "matching regex"),
        ("logging-service nowhere", "matching regex"),
        ("", "unknown service ''"),
    ],
)
def test_wrong_service_ips_are_named_in_the_error(text: str, expected: str) -> None:
    """The error names the part of --service-ips that is wrong."""
    with pytest.raises(ConfigError, match=expected.replace("?", r"\?")):
        config.with_service_ips(config.load(), parse_service_ips(text))


class MessagesLeases:
    """A directory with a clock that the test moves, and the requests of the messages service."""

    def __init__(self, *configured: str) -> None:
        self.now = 100.0
        self.directory = Directory({"messages-service": configured}, {}, clock=lambda: self.now)

    def register(self, address: str) -> object:
        """Renew the lease of a node."""
        return asyncio.run(self.directory.handle(Register(name="messages-service", address=address)))

    def leave(self, address: str) -> object:
        """Deregister a node."""
        return asyncio.run(self.directory.handle(Deregister(name="messages-service", address=address)))

    def listed(self) -> tuple[str, ...]:
        """The addresses that a lookup returns."""
        known = asyncio.run(self.directory.handle(Lookup(name="messages-service")))
        assert isinstance(known, LookupResult)
        return known.values


def test_an_address_is_listed_while_its_lease_is_renewed() -> None:
    """An address whose lease has lapsed is listed again as soon as it renews."""
    leases = MessagesLeases("a", "b", "c")
    assert ("a", "b", "c") == leases.listed()
    for _ in range(5):
        leases.now += 1.0
        assert LeaseGranted(seconds=LEASE_S) == leases.register("a") == leases.register("c")
    assert ("a", "c") == leases.listed()
    leases.register("b")
    assert ("a", "b", "c") == leases.listed()


def test_a_new_registry_lists_configured_addresses_for_one_heartbeat() -> None:
    """Configured addresses that nobody has renewed by then are no longer listed."""
    leases = MessagesLeases("a", "b")
    leases.register("b")
    leases.now += FIRST_LEASE_S - 0.1
    assert ("a", "b") == leases.listed()
    leases.now += 0.2
    assert ("b",) == leases.listed()


def test_without_any_lease_all_configured_addresses_are_listed() -> None:
    """If nobody renews, the fault is more likely at the registry than at all nodes."""
    leases = MessagesLeases("a", "b")
    leases.register("x")
    leases.now += 10 * LEASE_S

    assert ("a", "b") == leases.listed()


def test_a_node_outside_the_configuration_can_register() -> None:
    """Its address is listed at once, and no longer once it has deregistered."""
    leases = MessagesLeases("a")
    leases.register("x")
    assert ("a", "x") == leases.listed()
    assert LeaseGranted(seconds=0) == leases.leave("x") == leases.leave("a") == leases.leave("never known")
    leases.register("b")
    assert ("b",) == leases.listed()


def test_the_number_of_addresses_is_limited() -> None:
    """Nobody can fill the memory of a registry with addresses."""
    leases = MessagesLeases()
    for number in range(ADDRESSES):
        leases.register(f"h:{number}")
    refused = leases.register("one more")

    assert isinstance(refused, Failure)
    assert Code.OVERLOADED is refused.code
    assert ADDRESSES == len(leases.listed())
    leases.now += 2 * LEASE_S  # lapsed leases make room
    assert LeaseGranted(seconds=LEASE_S) == leases.register("one more")
    assert ("one more",) == leases.listed()


@pytest.mark.parametrize("name", ["hazelcast-clients", "logging-service"])
def test_only_services_can_be_registered(directory: Directory, name: str) -> None:
    """A setting is no service, and a logging node must renew with its in-sync set instead."""
    refused = asyncio.run(directory.handle(Register(name=name, address="h:1")))

    assert isinstance(refused, Failure)
    assert f"nobody registers for {name!r}; known: messages-service, facade" == refused.reason


class Replicas:
    """A directory whose start is over, and a logging node `n:1` that uses it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.directory = Directory(
            {"messages-service": ("m:1",), "logging-service": ("n:1", "n:2")},
            {"hazelcast-clients": ("h:1",)},
            clock=lambda: self.now,
            draw=lambda: 7,
        )
        self.now = FIRST_RENEWALS_S + 0.1

    def renew(self, held: InSyncSet = NO_SET) -> object:
        """Renew the node's lease; the node serves if it has a set."""
        ready = bool(held.members)
        return asyncio.run(
            self.directory.handle(Renew(node="n:1", incarnation=1, registry=7, in_sync=held, ready=ready))
        )


def test_only_logging_nodes_in_sync_are_listed() -> None:
    """A configured node that has not said that it is in sync is not listed."""
    replicas = Replicas()
    directory, lookup = replicas.directory, Lookup(name="logging-service")
    replicas.renew()
    assert LookupResult(name="logging-service", values=()) == asyncio.run(directory.handle(lookup))
    found = Bootstrap(node="n:1", incarnation=1, term=0, members=(Identity("n:1", 1),))
    founded = asyncio.run(directory.handle(found))
    assert isinstance(founded, Renewed)
    assert InSyncSet(1, (Member("n:1", 1, 1, True),)) == founded.in_sync
    replicas.renew(founded.in_sync)
    assert LookupResult(name="logging-service", values=("n:1",)) == asyncio.run(directory.handle(lookup))
    assert Status(service="registry", state=State.READY) == asyncio.run(directory.handle(Ping()))
    left = asyncio.run(directory.handle(Fence(node="n:1", incarnation=1, targets=(Identity("n:1", 1),))))
    assert isinstance(left, Renewed)
    assert Standing.LISTED is left.standing
    assert () == left.live


def test_a_new_registry_does_not_answer_for_logging_nodes(directory: Directory) -> None:
    """It answers `starting`, so that a client asks another registry, or uses its last answer."""
    reply = asyncio.run(directory.handle(Lookup(name="logging-service")))

    assert Failure(code=Code.STARTING, reason="this registry has just started, and asks who is in sync") == reply


def test_the_leases_show_an_operator_every_address() -> None:
    """Each address is listed, leased or configured or not, with the time since its last renewal."""
    replicas = Replicas()
    replicas.renew(InSyncSet(1, (Member("n:1", 1, 1, True),)))
    replicas.now += 0.5
    called = asyncio.run(replicas.directory.handle(ListLeases()))
    assert isinstance(called, Leases)
    assert [
        ("logging-service", "n:1", True, True, True, 0.5),
        ("logging-service", "n:2", False, False, True, -1.0),
        ("messages-service", "m:1", True, False, True, -1.0),
    ] == [(*lease[:5], round(lease.renewed_s, 3)) for lease in called.leases]
    assert ("h:1",) == called.members


def test_a_registry_reports_its_state(directory: Directory) -> None:
    """An operator gets a report of a registry, as of every server."""
    report = asyncio.run(directory.handle(Inspect()))

    assert isinstance(report, Report)
    assert "registry" == report.service
