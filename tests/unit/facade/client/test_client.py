"""Tests of facade.client.client over the in-memory transport."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

import pytest
from structlog.typing import EventDict

from common import ids
from common.errors import UnavailableError
from common.protocol.codec import Reply, Request
from common.protocol.content import Entry
from common.protocol.messages import Append, Code, Failure, Lookup, LookupResult, Read
from common.protocol.vectors import VectorEntry
from common.rpc.memory import MemoryTransport
from facade.client import failure_detector
from facade.client.client import Client
from facade.client.failure_detector import FailureDetector
from facade.client.retry import RetryPolicy
from facade.client.session import Session
from nodes import messages
from tests.support.facade import MESSAGES, NODES, OTHER_REGISTRY, REGISTRY, InstantScheduler, MemorySystem
from tests.support.memory_node import MemoryNode, SharedTables, incarnation_of


def test_the_registry_is_asked_before_every_access(system: MemorySystem) -> None:
    """Each request begins with a lookup of its service."""
    system.client.append(Entry(ids.new_id(), "a"))
    system.client.page("")
    system.client.description()

    lookups = [request.name for _, request in system.transport.called if isinstance(request, Lookup)]
    assert ["logging-service", "logging-service", "messages-service"] == lookups


def test_a_request_falls_back_to_the_next_node(system: MemorySystem) -> None:
    """A dead node costs a send and a hung one a timeout; the next node gets the message with the same id."""
    system.transport.kill(NODES[0])
    system.transport.hang(NODES[1])
    stored = system.client.append(Entry(ids.new_id(), "a"))

    assert NODES[2] == stored.node
    assert list(NODES) == system.attempts()
    assert 1.0 == system.now_s
    assert {stored.id} == {
        request.entries[0].id for _, request in system.transport.called if isinstance(request, Append)
    }


def test_a_node_that_is_back_within_the_deadline_serves_the_request(system: MemorySystem) -> None:
    """The client tries the nodes round after round until its deadline."""
    for node in NODES:
        system.transport.kill(node)
    revived_in_round = iter([None, None, NODES[1]])

    def revive(addresses: Sequence[str]) -> Sequence[str]:
        if node := next(revived_in_round, None):
            system.transport.revive(node)
        return addresses

    client = Client(
        InstantScheduler(lambda _seconds: None),
        system.transport,
        [REGISTRY],
        RetryPolicy(attempt_timeout_s=1.0, deadline_s=10.0),
        detector=FailureDetector(),
        clock=lambda: system.now_s,
        shuffled=revive,
    )

    assert NODES[1] == client.append(Entry(ids.new_id(), "a")).node


def test_a_suspect_is_tried_last(system: MemorySystem) -> None:
    """A suspected node is still asked if no other answers, and its answer clears the suspicion."""
    for node in NODES:
        system.transport.kill(node)
    with pytest.raises(UnavailableError):
        system.client.page("")
    system.transport.revive(NODES[2])

    assert NODES[2] == system.client.append(Entry(ids.new_id(), "a")).node
    assert set(NODES[:2]) == set(system.detector.suspects())


def test_a_registry_that_does_not_answer_is_replaced_by_the_next_one(system: MemorySystem) -> None:
    """A hung registry costs one timeout; then the other one is asked, also for other names."""
    system.transport.hang(REGISTRY)
    system.client.append(Entry(ids.new_id(), "a"))
    waited = system.now_s
    system.client.append(Entry(ids.new_id(), "b"))

    assert 0.5 == waited == system.now_s
    assert messages.TEXT == system.client.description()


def test_without_registries_their_last_answer_is_used(system: MemorySystem) -> None:
    """The last known addresses of a service are used; a service without known addresses is unavailable."""
    system.client.append(Entry(ids.new_id(), "a"))
    system.transport.kill(REGISTRY)
    system.transport.hang(OTHER_REGISTRY)

    assert NODES[0] == system.client.append(Entry(ids.new_id(), "b")).node
    waited = system.now_s
    assert NODES[0] == system.client.append(Entry(ids.new_id(), "c")).node
    assert 0.5 == waited == system.now_s
    with pytest.raises(UnavailableError, match="messages-service is not available: no registry answers"):
        system.client.description()
    system.transport.revive(REGISTRY)
    failure_detector.probe_suspects(system.transport, system.detector)
    assert messages.TEXT == system.client.description()


def test_a_dead_messages_node_costs_a_reader_half_a_second_at_most(system: MemorySystem) -> None:
    """A service that a reader can do without is tried only once."""
    system.transport.kill(MESSAGES)
    with pytest.raises(UnavailableError):
        system.client.description()
    assert system.now_s < 0.5
    system.transport.hang(MESSAGES)
    with pytest.raises(UnavailableError):
        system.client.description()
    assert system.now_s < 1.0


class RefusingNode(MemoryNode):
    """A node that refuses appends while it has a Failure for its address.

    Args:
        failures: by address; a test changes them.
    """

    def __init__(self, address: str, tables: SharedTables, failures: Mapping[str, Failure]) -> None:
        super().__init__(address, tables)
        self._failures = failures

    async def append(self, request: Append) -> Reply:
        """See MemoryNode."""
        return self._failures.get(self.address) or await super().append(request)


def test_a_node_that_is_starting_is_passed_over() -> None:
    """A refusal is no unknown outcome: the next node is asked, and without one the message is not stored."""
    failures = {node: Failure(code=Code.STARTING, reason=f"logging node {node} is starting") for node in NODES}
    system = MemorySystem(partial(RefusingNode, failures=failures))
    with pytest.raises(UnavailableError, match=r"starting: logging node 127\.0\.0\.1:500\d is starting"):
        system.client.append(Entry(ids.new_id(), "a"))
    del failures[NODES[1]]

    assert NODES[1] == system.client.append(Entry(ids.new_id(), "b")).node
    assert () == system.detector.suspects()


def test_an_id_ahead_of_the_clocks_of_the_nodes_fails_at_once() -> None:
    """No node would accept it: the first refusal is the error, and is remembered until an append succeeds."""
    failures = {NODES[0]: Failure(code=Code.AHEAD, reason="the time of its id is 90 s ahead of the clock here")}
    system = MemorySystem(partial(RefusingNode, failures=failures))
    with pytest.raises(UnavailableError, match="the time of its id is 90 s ahead of the clock here"):
        system.client.append(Entry(ids.new_id(), "a"))
    assert [NODES[0]] == system.attempts()
    assert 0.0 == system.now_s
    assert "ahead: the time of its id is 90 s ahead of the clock here" == system.client.refusal

    failures.clear()
    system.client.append(Entry(ids.new_id(), "b"))
    assert "" == system.client.refusal


def test_the_session_of_a_read_has_all_acknowledged_and_read_records(system: MemorySystem) -> None:
    """The record of a reply, and the version vector of a page, are in the session vector of the next read."""
    system.client.append(Entry(ids.new_id(), "a"))
    system.client.append_all([Entry(ids.new_id(), "b"), Entry(ids.new_id(), "c")])
    asyncio.run(system.nodes[NODES[1]].store([Entry(ids.new_id(), "past this facade")]))
    system.client.page("")
    system.client.page("")

    own, other = (VectorEntry(incarnation_of(NODES[0]), 3), VectorEntry(incarnation_of(NODES[1]), 1))
    sessions = [request.session for _, request in system.transport.called if isinstance(request, Read)]
    assert [(own,), (own, other)] == sessions


def test_a_replica_that_lacks_an_acknowledged_record_is_passed_over() -> None:
    """It answers BEHIND, is no suspect for that, and the next node answers: the facade reads its own writes."""
    system = MemorySystem(lambda address, _tables: MemoryNode(address))  # each has only the messages that it accepted
    system.transport.kill(NODES[0])
    system.client.append(Entry(ids.new_id(), "a"))
    system.transport.revive(NODES[0])
    system.detector.clear(NODES[0])
    begin = len(system.attempts())

    assert ["a"] == [entry.msg for entry in system.client.page("").entries]
    assert list(NODES[:2]) == system.attempts()[begin:]
    assert () == system.detector.suspects()


def test_a_read_fails_if_no_node_has_the_acknowledged_records() -> None:
    """A page without an acknowledged message would be wrong."""
    system = MemorySystem(lambda address, _tables: MemoryNode(address))
    system.client.append(Entry(ids.new_id(), "a"))
    system.transport.kill(NODES[0])

    with pytest.raises(UnavailableError, match="logging-service is not available"):
        system.client.page("")
    assert NODES[1] == system.client.append(Entry(ids.new_id(), "b")).node


def test_a_record_that_no_replica_has_is_given_up_after_some_seconds(logged: list[EventDict]) -> None:
    """Then the session is reset, which is counted and logged, and reads succeed without the record."""
    system = MemorySystem(lambda address, _tables: MemoryNode(address))
    session = Session(clock=lambda: system.now_s)
    client = system.new_client(session)
    client.append(Entry(ids.new_id(), "a"))
    system.transport.kill(NODES[0])
    while not session.resets:
        with pytest.raises(UnavailableError):
            client.page("")

    assert () == client.page("").entries
    assert 1 == session.resets
    assert 10.0 <= system.now_s <= 20.0
    assert 1 == sum("session reset" in line["event"] for line in logged)


def test_a_message_is_looked_for_at_one_node(system: MemorySystem) -> None:
    """A listed replica has every acknowledged message, so a message that it does not have does not exist."""
    stored = system.client.append(Entry(ids.new_id(), "a"))
    assert (Entry(stored.id, "a", node=NODES[0]), NODES[0]) == system.client.find(stored.id)
    begin = len(system.attempts())

    assert (None, NODES[0]) == system.client.find(ids.new_id())
    assert [NODES[0]] == system.attempts()[begin:]


def test_a_request_waits_while_the_registries_are_starting() -> None:
    """An earlier answer may list a replica that was fenced since then, so it is not used."""
    system = MemorySystem()
    starting = Failure(code=Code.STARTING, reason="this registry has just started")
    answers: list[Reply] = [
        LookupResult(name="logging-service", values=NODES[:1]),
        *[starting] * 3,
        LookupResult(name="logging-service", values=NODES[1:2]),
    ]

    async def registry(_request: Request) -> Reply:
        return answers.pop(0)

    handlers = {address: node.handle for address, node in system.nodes.items()}
    system.transport = MemoryTransport({**handlers, REGISTRY: registry}, sleep=system.advance)
    client = system.new_client(Session())

    assert [NODES[0], NODES[1]] == [client.append(Entry(ids.new_id(), text)).node for text in ("a", "b")]
    assert list(NODES[:2]) == system.attempts()
    assert 0.0 < system.now_s < 1.0


def test_a_request_waits_for_a_starting_registry_until_its_deadline() -> None:
    """Then it fails with the reason."""
    system = MemorySystem()

    async def registry(_request: Request) -> Reply:
        return Failure(code=Code.STARTING, reason="this registry has just started")

    system.transport = MemoryTransport({REGISTRY: registry}, sleep=system.advance)
    with pytest.raises(UnavailableError, match="logging-service is not available: it has no address"):
        system.new_client(Session()).page("")
    assert 9.0 < system.now_s <= 10.0
