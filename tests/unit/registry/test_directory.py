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
    """The directory of the users' configuration."""
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
def test_a_name_is_answered_with_what_is_configured(directory: Directory, name: str, values: tuple[str, ...]) -> None:
    """Services and Hazelcast settings are found under the names of config.toml."""
    assert LookupResult(name=name, values=values) == asyncio.run(directory.handle(Lookup(name=name)))


def test_an_unknown_name_lists_the_known_ones(directory: Directory) -> None:
    """The error helps whoever made a typing mistake."""
    reply = asyncio.run(directory.handle(Lookup(name="logging")))

    assert isinstance(reply, Failure)
    assert Code.UNKNOWN_NAME is reply.code
    services, settings = "messages-service, logging-service, facade", "hazelcast-cluster-name, hazelcast-clients"
    known = f"{services}, {settings}, configured-logging-service"
    assert f"unknown name 'logging'; known: {known}" == reply.reason


def test_a_ping_is_answered_and_a_foreign_request_refused(directory: Directory) -> None:
    """A registry says who it is, and does not answer for others."""
    assert Status(service="registry", state=State.STARTING) == asyncio.run(directory.handle(Ping()))
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


class MessagesLeases:
    """A directory with a clock that the test moves, and the questions of one service."""

    def __init__(self, *configured: str) -> None:
        self.now = 100.0
        self.directory = Directory({"messages-service": configured}, {}, clock=lambda: self.now)

    def register(self, address: str) -> object:
        """A node renews its lease."""
        return asyncio.run(self.directory.handle(Register(name="messages-service", address=address)))

    def leave(self, address: str) -> object:
        """A node goes."""
        return asyncio.run(self.directory.handle(Deregister(name="messages-service", address=address)))

    def serving(self) -> tuple[str, ...]:
        """Who is handed out."""
        known = asyncio.run(self.directory.handle(Lookup(name="messages-service")))
        assert isinstance(known, LookupResult)
        return known.values


def test_who_renews_is_handed_out_and_who_does_not_lapses() -> None:
    """After three heartbeats without a renewal an address is handed out no more, until it renews again."""
    leases = MessagesLeases("a", "b", "c")
    assert ("a", "b", "c") == leases.serving()
    for _ in range(5):
        leases.now += 1.0
        assert LeaseGranted(seconds=LEASE_S) == leases.register("a") == leases.register("c")
    assert ("a", "c") == leases.serving()
    leases.register("b")
    assert ("a", "b", "c") == leases.serving()


def test_a_registry_that_starts_is_right_after_one_heartbeat() -> None:
    """Configured addresses are handed out from the start; those that nobody renews are gone after a heartbeat."""
    leases = MessagesLeases("a", "b")
    leases.register("b")
    leases.now += FIRST_LEASE_S - 0.1
    assert ("a", "b") == leases.serving()
    leases.now += 0.2
    assert ("b",) == leases.serving()


def test_when_nobody_renews_all_configured_ones_are_handed_out() -> None:
    """No lease at all says more about the registry than about the nodes."""
    leases = MessagesLeases("a", "b")
    leases.register("x")
    leases.now += 10 * LEASE_S

    assert ("a", "b") == leases.serving()


def test_a_node_that_nobody_configured_joins_and_leaves() -> None:
    """A registered address is handed out at once, and no more once it has left."""
    leases = MessagesLeases("a")
    leases.register("x")
    assert ("a", "x") == leases.serving()
    assert LeaseGranted(seconds=0) == leases.leave("x") == leases.leave("a") == leases.leave("never known")
    leases.register("b")
    assert ("b",) == leases.serving()


def test_the_number_of_addresses_is_limited() -> None:
    """Nobody fills the memory of a registry with addresses."""
    leases = MessagesLeases()
    for number in range(ADDRESSES):
        leases.register(f"h:{number}")
    refused = leases.register("one more")

    assert isinstance(refused, Failure)
    assert Code.OVERLOADED is refused.code
    assert ADDRESSES == len(leases.serving())
    leases.now += 2 * LEASE_S  # the dead make room
    assert LeaseGranted(seconds=LEASE_S) == leases.register("one more")
    assert ("one more",) == leases.serving()


@pytest.mark.parametrize("name", ["hazelcast-clients", "logging-service"])
def test_only_services_can_be_registered(directory: Directory, name: str) -> None:
    """A setting is no service, and a logging node has to say who is in sync with it."""
    refused = asyncio.run(directory.handle(Register(name=name, address="h:1")))

    assert isinstance(refused, Failure)
    assert f"nobody registers for {name!r}; known: messages-service, facade" == refused.reason


class Replicas:
    """A directory that has ended its start, and a logging node `n:1` that asks it."""

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
        """The node renews, and serves when it has a set."""
        ready = bool(held.members)
        return asyncio.run(
            self.directory.handle(Renew(node="n:1", incarnation=1, registry=7, in_sync=held, ready=ready))
        )


def test_logging_nodes_are_those_in_sync() -> None:
    """Whoever is configured and has not said that it is in sync is not handed out."""
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


def test_a_registry_that_starts_does_not_know_who_is_in_sync(directory: Directory) -> None:
    """Whoever asks is told so, and asks another registry, or uses what it knew."""
    reply = asyncio.run(directory.handle(Lookup(name="logging-service")))

    assert Failure(code=Code.STARTING, reason="this registry has just started, and asks who is in sync") == reply


def test_an_operator_sees_everyone_a_registry_knows() -> None:
    """Who is handed out, who renews, who is configured, and when it renewed last."""
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


def test_a_registry_reports_how_it_is(directory: Directory) -> None:
    """Like every server."""
    report = asyncio.run(directory.handle(Inspect()))

    assert isinstance(report, Report)
    assert "registry" == report.service
