"""Tests of facade.client over the in-memory transport."""

from collections.abc import Callable, Sequence

import msgspec
import pytest
from falcon import testing

from common import config, ids
from common.errors import OutcomeUnknownError, UnavailableError
from common.loopback import MemoryTransport
from common.wire import Append, Lookup, Ping
from facade import body, limits, prober
from facade.access import Access
from facade.app import create_app
from facade.client import Client
from facade.documents import Make, of_facade
from facade.follow import Live
from facade.intake import Intake
from facade.meter import Meter
from facade.metrics import FacadeMetrics
from facade.routing import Limits, Suspects
from facade.streams import Slots
from facade.survey import Survey
from facade.watch import Watch
from nodes import messages
from nodes.log import LoggingNode
from nodes.store import MemoryStore
from registry.directory import Directory

NODES = ("127.0.0.1:5002", "127.0.0.1:5003", "127.0.0.1:5004")
REGISTRY, OTHER_REGISTRY, MESSAGES = "127.0.0.1:5005", "127.0.0.1:5105", "127.0.0.1:5001"

LIMITS = limits.of(msgspec.structs.replace(config.load(), facade=config.Facade(streams=4)))


class World:
    """A whole system in memory: one store that three nodes share, and a clock that only waits move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.store = MemoryStore()
        nodes = {address: LoggingNode(address) for address in NODES}
        for node in nodes.values():
            node.open(self.store)
        registry = Directory.from_config(config.load())
        handlers = {address: node.handle for address, node in nodes.items()}
        handlers |= {REGISTRY: registry.handle, OTHER_REGISTRY: registry.handle, MESSAGES: messages.handle}
        self.transport = MemoryTransport(handlers, sleep=self._sleep)
        self.suspects = Suspects()
        self.meter = Meter()
        survey = Survey(self.transport, [REGISTRY, OTHER_REGISTRY], self.suspects, self.meter)
        self.watch = Watch(survey)
        self.metrics = FacadeMetrics(self.meter, self.suspects, survey.traffic)
        self.client = Client(
            self.transport,
            [REGISTRY, OTHER_REGISTRY],
            Limits(attempt_timeout_s=1.0, deadline_s=10.0),
            suspects=self.suspects,
            meter=self.meter,
            clock=lambda: self.now,
            sleep=self._sleep,
            shuffled=self._in_order,
        )

    @property
    def documents(self) -> dict[str, Make]:
        """Whole answers of a facade."""
        return of_facade(self.client, self.watch, self.metrics, LIMITS)

    def http(
        self,
        slots: Slots | None = None,
        *,
        new_id: Callable[[], str] = ids.new_id,
        draining: Callable[[], bool] = lambda: False,
        access: Access | None = None,
        taken: config.Limits = body.DEFAULT,
    ) -> testing.TestClient:
        """A facade in front of it."""
        documents = of_facade(self.client, self.watch, self.metrics, LIMITS, draining=draining)
        live = Live(self.client)
        return testing.TestClient(
            create_app(
                self.client,
                live,
                slots or Slots(4),
                documents,
                metrics=self.metrics,
                access=access,
                intake=Intake(self.client, taken, new_id),
            )
        )

    def asked(self) -> list[str]:
        """Which addresses were tried, without the registry."""
        return [address for address, request in self.transport.called if not isinstance(request, Lookup)]

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def _in_order(self, found: Sequence[str]) -> Sequence[str]:
        return found


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
    assert {stored.id} == {request.id for _, request in world.transport.called if isinstance(request, Append)}


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
        world.transport,
        [REGISTRY],
        Limits(attempt_timeout_s=1.0, deadline_s=10.0),
        suspects=Suspects(),
        clock=lambda: world.now,
        sleep=lambda _seconds: None,
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

    prober.probe(world.transport, world.suspects)
    assert (NODES[0],) == world.suspects.known()
    world.transport.revive(NODES[0])
    prober.probe(world.transport, world.suspects)
    assert () == world.suspects.known()
    assert NODES[0] == world.client.append(ids.new_id(), "c").node


def test_a_suspect_serves_when_there_is_no_other(world: World) -> None:
    """Being a suspect is no sentence: it is still tried, last, and its answer clears it."""
    for node in NODES:
        world.transport.kill(node)
    with pytest.raises(UnavailableError):
        world.client.page("")
    world.transport.revive(NODES[2])

    assert NODES[2] == world.client.append(ids.new_id(), "a").node
    assert set(NODES[:2]) == set(world.suspects.known())


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
    prober.probe(world.transport, world.suspects)
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


def test_a_node_that_starts_is_passed_over() -> None:
    """A refusal is not an unknown outcome."""
    starting = LoggingNode(NODES[0])
    transport = MemoryTransport(
        {NODES[0]: starting.handle, REGISTRY: Directory({"logging-service": NODES[:1]}, {}).handle}
    )
    client = Client(transport, [REGISTRY], Limits(attempt_timeout_s=0.1, deadline_s=0.2), suspects=Suspects())

    with pytest.raises(UnavailableError, match=r"starting: logging node 127\.0\.0\.1:5002 is starting"):
        client.append(ids.new_id(), "a")
    assert "starting" == transport.call(NODES[0], Ping(), timeout_s=1.0).state  # type: ignore[union-attr]
