"""Tests of registry.directory."""

import asyncio

import pytest

from common import config
from common.errors import ConfigError, InvalidMessageError
from common.wire import Code, Describe, Failure, Known, Leased, Leave, Lookup, Ping, Register, State, Status
from registry.directory import ADDRESSES, FIRST_LEASE_S, LEASE_S, Directory, parse_service_ips


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
    services, settings = "messages-service, logging-service, facade", "hazelcast-cluster-name, hazelcast-clients"
    known = f"{services}, {settings}, configured-logging-service"
    assert f"unknown name 'logging'; known: {known}" == reply.reason


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


class Leases:
    """A directory with a clock that the test moves, and the questions of one service."""

    def __init__(self, *configured: str) -> None:
        self.now = 100.0
        self._directory = Directory({"logging-service": configured}, {}, clock=lambda: self.now)

    def register(self, address: str, *view: str) -> object:
        """A node renews its lease."""
        return asyncio.run(self._directory.handle(Register(name="logging-service", address=address, view=view)))

    def leave(self, address: str) -> object:
        """A node goes."""
        return asyncio.run(self._directory.handle(Leave(name="logging-service", address=address)))

    def serving(self) -> tuple[str, ...]:
        """Who is handed out."""
        known = asyncio.run(self._directory.handle(Lookup(name="logging-service")))
        assert isinstance(known, Known)
        return known.values


def test_who_renews_is_handed_out_and_who_does_not_lapses() -> None:
    """After three heartbeats without a renewal an address is handed out no more, until it renews again."""
    leases = Leases("a", "b", "c")
    assert ("a", "b", "c") == leases.serving()
    for _ in range(5):
        leases.now += 1.0
        assert Leased(seconds=LEASE_S) == leases.register("a") == leases.register("c")
    assert ("a", "c") == leases.serving()
    leases.register("b")
    assert ("a", "b", "c") == leases.serving()


def test_a_registry_that_starts_is_right_after_one_heartbeat() -> None:
    """Configured addresses are handed out from the start; those that nobody renews are gone after a heartbeat."""
    leases = Leases("a", "b")
    leases.register("b")
    leases.now += FIRST_LEASE_S - 0.1
    assert ("a", "b") == leases.serving()
    leases.now += 0.2
    assert ("b",) == leases.serving()


def test_when_nobody_renews_all_configured_ones_are_handed_out() -> None:
    """No lease at all says more about the registry than about the nodes."""
    leases = Leases("a", "b")
    leases.register("x")
    leases.now += 10 * LEASE_S

    assert ("a", "b") == leases.serving()


def test_a_node_that_nobody_configured_joins_and_leaves() -> None:
    """A registered address is handed out at once, and no more once it has left."""
    leases = Leases("a")
    leases.register("x")
    assert ("a", "x") == leases.serving()
    assert Leased(seconds=0) == leases.leave("x") == leases.leave("a") == leases.leave("never known")
    leases.register("b")
    assert ("b",) == leases.serving()


def test_of_disjoint_views_only_the_largest_is_handed_out() -> None:
    """The witness: nodes that see another cluster than most are not read from, until the views meet again."""
    leases = Leases("a", "b", "c")
    leases.register("a", "1", "2")
    leases.register("b", "1", "2")
    leases.register("c", "3")
    assert ("a", "b") == leases.serving()
    leases.register("c", "1", "2", "3")
    assert ("a", "b", "c") == leases.serving()


def test_views_that_overlap_in_a_chain_are_one_group() -> None:
    """While members come and go views differ by a little: as long as any two share a member they belong together."""
    leases = Leases("a", "b", "c")
    leases.register("a", "1", "2")
    leases.register("c", "3", "4")
    leases.register("b", "2", "3")

    assert ("a", "b", "c") == leases.serving()


def test_of_as_many_the_oldest_are_handed_out() -> None:
    """One against one: the node that is known for longer stays; a lone survivor of two kills is handed out."""
    leases = Leases()
    leases.register("old", "1")
    leases.now += 1.0
    leases.register("new", "2")
    assert ("old",) == leases.serving()
    for _ in range(4):
        leases.now += 1.0
        leases.register("new", "2")
    assert ("new",) == leases.serving()


def test_a_node_without_a_cluster_belongs_to_every_group() -> None:
    """Before a node has told its view, and with the embedded engine, the witness has nothing to say about it."""
    leases = Leases("a", "b", "c")
    leases.register("a", "1")

    assert ("a", "b", "c") == leases.serving()


def test_the_number_of_addresses_is_limited() -> None:
    """Nobody fills the memory of a registry with addresses."""
    leases = Leases()
    for number in range(ADDRESSES):
        leases.register(f"h:{number}")
    refused = leases.register("one more")

    assert isinstance(refused, Failure)
    assert Code.OVERLOADED is refused.code
    assert ADDRESSES == len(leases.serving())
    leases.now += 2 * LEASE_S  # the dead make room
    assert Leased(seconds=LEASE_S) == leases.register("one more")
    assert ("one more",) == leases.serving()


def test_only_services_can_be_registered(directory: Directory) -> None:
    """A setting is no service, and what is unknown is named with what is known."""
    refused = asyncio.run(directory.handle(Register(name="hazelcast-clients", address="h:1")))

    assert isinstance(refused, Failure)
    assert "unknown service 'hazelcast-clients'; known: messages-service, logging-service, facade" == refused.reason
