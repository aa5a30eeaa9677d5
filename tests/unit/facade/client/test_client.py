"""Tests of facade.client over the in-memory transport."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

import pytest
from structlog.typing import EventDict

from common import ids
from common.errors import OutcomeUnknownError, UnavailableError
from common.protocol.codec import Reply, Request
from common.protocol.messages import Append, Code, Entry, Failure, Lookup, LookupResult, Read
from common.protocol.vectors import VectorEntry
from common.rpc.memory import MemoryTransport
from facade.client import failure_detector
from facade.client.client import Client
from facade.client.failure_detector import FailureDetector
from facade.client.retry import RetryPolicy
from facade.client.session import Session
from nodes import messages
from tests.support.facade import MESSAGES, NODES, OTHER_REGISTRY, REGISTRY, PassingTime, World
from tests.support.memory_node import MemoryNode, SharedTables, incarnation_of


@pytest.fixture
def world() -> World:
    """A whole system in memory."""
    return World()


def test_the_registry_is_asked_before_every_access(world: World) -> None:
    """Each request begins with a lookup of its service."""
    world.client.append(ids.new_id(), "a")
    world.client.page("")
    world.client.description()

    lookups = [request.name for _, request in world.transport.called if isinstance(request, Lookup)]
    assert ["logging-service", "logging-service", "messages-service"] == lookups


def test_a_dead_and_a_hung_node_cost_a_send_and_a_timeout(world: World) -> None:
    """The request goes on to the next node, with the same id, and is answered by the first that can."""
    world.transport.kill(NODES[0])
    world.transport.hang(NODES[1])
    stored = world.client.append(ids.new_id(), "a")

    assert NODES[2] == stored.node
    assert list(NODES) == world.asked()
    assert 1.0 == world.now
    assert {stored.id} == {
        request.entries[0].id for _, request in world.transport.called if isinstance(request, Append)
    }


def test_a_retry_after_an_unknown_outcome_stores_once(world: World) -> None:
    """A node that stored and then vanished without a reply leads to no second copy."""
    world.transport.cut(NODES[0])
    world.client.append(ids.new_id(), "once")

    assert ["once"] == [entry.msg for entry in world.client.page("").entries]


def test_when_no_node_can_be_reached_certainly_nothing_is_stored(world: World) -> None:
    """All attempts that were never sent: the write definitely did not happen, and it took no longer than allowed."""
    for node in NODES:
        world.transport.kill(node)

    with pytest.raises(UnavailableError, match="logging-service is not available: 127"):
        world.client.append(ids.new_id(), "a")
    assert 9.0 < world.now <= 10.0


def test_when_a_write_was_sent_and_never_answered_the_outcome_is_unknown(world: World) -> None:
    """One attempt that was sent is enough: the error has the id, and says that it may be stored."""
    world.transport.kill(NODES[0])
    world.transport.cut(NODES[1])
    world.transport.kill(NODES[2])
    message_id = ids.new_id()

    with pytest.raises(OutcomeUnknownError, match="it may still be stored") as caught:
        world.client.append(message_id, "a")
    assert message_id == caught.value.message_id


def test_a_node_that_comes_back_within_the_deadline_serves_the_request(world: World) -> None:
    """The nodes are gone round again until the deadline."""
    for node in NODES:
        world.transport.kill(node)
    rounds = iter([None, None, NODES[1]])

    def revive_later(found: Sequence[str]) -> Sequence[str]:
        if node := next(rounds, None):
            world.transport.revive(node)
        return found

    client = Client(
        PassingTime(lambda _seconds: None),
        world.transport,
        [REGISTRY],
        RetryPolicy(attempt_timeout_s=1.0, deadline_s=10.0),
        detector=FailureDetector(),
        clock=lambda: world.now,
        shuffled=revive_later,
    )

    assert NODES[1] == client.append(ids.new_id(), "a").node


def test_a_hung_node_costs_one_timeout_and_then_nothing_until_it_answers_a_probe(world: World) -> None:
    """The first request waits for the hung node; the next ones try it last; a probe brings it back."""
    world.transport.hang(NODES[0])
    world.client.append(ids.new_id(), "a")
    assert 1.0 == world.now
    for _ in range(10):
        assert NODES[1] == world.client.append(ids.new_id(), "b").node
    assert 1.0 == world.now

    failure_detector.probe_suspects(world.transport, world.detector)
    assert (NODES[0],) == world.detector.suspects()
    world.transport.revive(NODES[0])
    failure_detector.probe_suspects(world.transport, world.detector)
    assert () == world.detector.suspects()
    assert NODES[0] == world.client.append(ids.new_id(), "c").node


def test_a_suspect_serves_when_there_is_no_other(world: World) -> None:
    """Being a suspect is no sentence: it is still tried, last, and its answer clears it."""
    for node in NODES:
        world.transport.kill(node)
    with pytest.raises(UnavailableError):
        world.client.page("")
    world.transport.revive(NODES[2])

    assert NODES[2] == world.client.append(ids.new_id(), "a").node
    assert set(NODES[:2]) == set(world.detector.suspects())


def test_a_silent_registry_is_replaced_by_the_next_one(world: World) -> None:
    """A registry that hangs costs one timeout, then the other one is asked, also for names that were not asked yet."""
    world.transport.hang(REGISTRY)
    world.client.append(ids.new_id(), "a")
    waited = world.now
    world.client.append(ids.new_id(), "b")

    assert 0.5 == waited == world.now
    assert messages.TEXT == world.client.description()


def test_when_all_registries_are_silent_their_last_answer_serves(world: World) -> None:
    """What was last known serves while all are away; without any answer the service is unavailable."""
    world.client.append(ids.new_id(), "a")
    world.transport.kill(REGISTRY)
    world.transport.hang(OTHER_REGISTRY)

    assert NODES[0] == world.client.append(ids.new_id(), "b").node
    waited = world.now
    assert NODES[0] == world.client.append(ids.new_id(), "c").node
    assert 0.5 == waited == world.now
    with pytest.raises(UnavailableError, match="messages-service is not available: no registry answers"):
        world.client.description()
    world.transport.revive(REGISTRY)
    failure_detector.probe_suspects(world.transport, world.detector)
    assert messages.TEXT == world.client.description()


def test_a_dead_messages_node_costs_a_reader_half_a_second_at_most(world: World) -> None:
    """What a reader can do without is not tried again and again."""
    world.transport.kill(MESSAGES)
    with pytest.raises(UnavailableError):
        world.client.description()
    assert world.now < 0.5
    world.transport.hang(MESSAGES)
    with pytest.raises(UnavailableError):
        world.client.description()
    assert world.now < 1.0


class RefusingNode(MemoryNode):
    """Answers each append with a Failure, while there is one for its address.

    Args:
        failures: by address; a test changes them.
    """

    def __init__(self, address: str, tables: SharedTables, failures: Mapping[str, Failure]) -> None:
        super().__init__(address, tables)
        self._failures = failures

    async def append(self, request: Append) -> Reply:
        """See MemoryNode."""
        return self._failures.get(self.address) or await super().append(request)


def test_a_node_that_starts_is_passed_over() -> None:
    """A refusal is not an unknown outcome: the next node is asked, and without one certainly nothing is stored."""
    failures = {node: Failure(code=Code.STARTING, reason=f"logging node {node} is starting") for node in NODES}
    world = World(partial(RefusingNode, failures=failures))
    with pytest.raises(UnavailableError, match=r"starting: logging node 127\.0\.0\.1:500\d is starting"):
        world.client.append(ids.new_id(), "a")
    del failures[NODES[1]]

    assert NODES[1] == world.client.append(ids.new_id(), "b").node
    assert () == world.detector.suspects()


def test_an_id_ahead_of_the_clock_ends_the_request_at_once() -> None:
    """No node would take it: the sentence of the first one is the answer, and is kept until an append is taken."""
    failures = {NODES[0]: Failure(code=Code.AHEAD, reason="the time of its id is 90 s ahead of the clock here")}
    world = World(partial(RefusingNode, failures=failures))
    with pytest.raises(UnavailableError, match="the time of its id is 90 s ahead of the clock here"):
        world.client.append(ids.new_id(), "a")
    assert [NODES[0]] == world.asked()
    assert 0.0 == world.now
    assert "ahead: the time of its id is 90 s ahead of the clock here" == world.client.refusal

    failures.clear()
    world.client.append(ids.new_id(), "b")
    assert "" == world.client.refusal


def test_a_refusal_after_an_attempt_without_an_answer_leaves_the_outcome_unknown() -> None:
    """The first node may have stored what the second one does not take."""
    failures = {NODES[1]: Failure(code=Code.AHEAD, reason="ahead")}
    world = World(partial(RefusingNode, failures=failures))
    world.transport.cut(NODES[0])

    with pytest.raises(OutcomeUnknownError, match="it may still be stored"):
        world.client.append(ids.new_id(), "a")
    assert list(NODES[:2]) == world.asked()


def test_a_read_asks_for_what_was_acknowledged_and_what_was_read(world: World) -> None:
    """The record of a reply, and the vector of a page, are in the session of the next read."""
    world.client.append(ids.new_id(), "a")
    world.client.append_all([Entry(ids.new_id(), "b"), Entry(ids.new_id(), "c")])
    asyncio.run(world.nodes[NODES[1]].store([Entry(ids.new_id(), "past this facade")]))
    world.client.page("")
    world.client.page("")

    own, other = (VectorEntry(incarnation_of(NODES[0]), 3), VectorEntry(incarnation_of(NODES[1]), 1))
    sessions = [request.session for _, request in world.transport.called if isinstance(request, Read)]
    assert [(own,), (own, other)] == sessions


def test_a_node_that_has_less_than_was_acknowledged_is_passed_over() -> None:
    """It answers BEHIND, which makes it no suspect, and the next node answers; the facade sees its own writes."""
    world = World(lambda address, _tables: MemoryNode(address))  # each has only what it accepts
    world.transport.kill(NODES[0])
    world.client.append(ids.new_id(), "a")
    world.transport.revive(NODES[0])
    world.detector.clear(NODES[0])
    begin = len(world.asked())

    assert ["a"] == [entry.msg for entry in world.client.page("").entries]
    assert list(NODES[:2]) == world.asked()[begin:]
    assert () == world.detector.suspects()


def test_when_no_node_has_what_was_acknowledged_nothing_is_read() -> None:
    """A page without an acknowledged message would be wrong: there is an error instead."""
    world = World(lambda address, _tables: MemoryNode(address))
    world.client.append(ids.new_id(), "a")
    world.transport.kill(NODES[0])

    with pytest.raises(UnavailableError, match="logging-service is not available"):
        world.client.page("")
    assert NODES[1] == world.client.append(ids.new_id(), "b").node


def test_what_died_with_its_only_replica_is_waited_for_once(logged: list[EventDict]) -> None:
    """After some seconds in which no node has had it, reads go on without it, and that is counted and logged."""
    world = World(lambda address, _tables: MemoryNode(address))
    session = Session(clock=lambda: world.now)
    client = world.client_with(session)
    client.append(ids.new_id(), "a")
    world.transport.kill(NODES[0])
    while not session.resets:
        with pytest.raises(UnavailableError):
            client.page("")

    assert () == client.page("").entries
    assert 1 == session.resets
    assert 10.0 <= world.now <= 20.0
    assert 1 == sum("session reset" in line["event"] for line in logged)


def test_a_message_is_looked_for_at_one_node(world: World) -> None:
    """A listed replica has everything that was acknowledged, so that what it does not have is not there."""
    stored = world.client.append(ids.new_id(), "a")
    assert (Entry(stored.id, "a"), NODES[0]) == world.client.find(stored.id)
    begin = len(world.asked())

    assert (None, NODES[0]) == world.client.find(ids.new_id())
    assert [NODES[0]] == world.asked()[begin:]


def test_while_registries_start_a_request_waits() -> None:
    """An earlier answer may name a replica that was fenced since: it is not used, also when the others are silent."""
    world = World()
    starting = Failure(code=Code.STARTING, reason="this registry has just started")
    answers: list[Reply] = [
        LookupResult(name="logging-service", values=NODES[:1]),
        *[starting] * 3,
        LookupResult(name="logging-service", values=NODES[1:2]),
    ]

    async def registry(_request: Request) -> Reply:
        return answers.pop(0)

    handlers = {address: node.handle for address, node in world.nodes.items()}
    world.transport = MemoryTransport({**handlers, REGISTRY: registry}, sleep=world.sleep)
    client = world.client_with(Session())

    assert [NODES[0], NODES[1]] == [client.append(ids.new_id(), text).node for text in ("a", "b")]
    assert list(NODES[:2]) == world.asked()
    assert 0.0 < world.now < 1.0


def test_a_registry_that_starts_for_long_is_told() -> None:
    """A request does not wait longer than its deadline."""
    world = World()

    async def registry(_request: Request) -> Reply:
        return Failure(code=Code.STARTING, reason="this registry has just started")

    world.transport = MemoryTransport({REGISTRY: registry}, sleep=world.sleep)
    with pytest.raises(UnavailableError, match="logging-service is not available: it has no address"):
        world.client_with(Session()).page("")
    assert 9.0 < world.now <= 10.0
