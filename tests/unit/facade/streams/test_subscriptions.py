"""Tests of facade.streams.subscriptions over the in-memory system."""

import itertools
import threading
from collections.abc import Callable
from functools import partial

import pytest
from structlog.typing import EventDict

from common import ids
from common.errors import UnavailableError
from common.protocol.codec import Reply
from common.protocol.content import Entry
from common.protocol.messages import Tail
from facade.server.scheduler import Scheduler
from facade.streams.subscriptions import (
    DELIVERIES_PER_TURN,
    TAKEN_BYTES,
    JournalFollower,
    Subscription,
    Subscriptions,
)
from tests.support.facade import NODES, MemorySystem
from tests.support.memory_node import MemoryNode, SharedTables
from tests.support.waiting import eventually

TAIL_S = 0.05  # for which the nodes of these tests keep a long poll waiting


@pytest.fixture
def system() -> MemorySystem:
    """A whole system in memory with short long polls."""
    return MemorySystem(partial(MemoryNode, tail_s=TAIL_S), threaded=True)


def take(subscription: Subscription, count: int) -> list[Entry]:
    """Take messages until there are at least so many."""
    found: list[Entry] = []

    def taken_enough() -> bool:
        found.extend(Entry(message.id, message.msg) for message in subscription.take(0.05) or [])
        return len(found) >= count

    eventually(taken_enough)
    return found


def long_polls(system: MemorySystem, begin: int) -> list[str]:
    """The addresses of all long polls after the first `begin` requests."""
    return [address for address, request in system.transport.called[begin:] if isinstance(request, Tail)]


def turn_until(system: MemorySystem, probe: Callable[[], object]) -> None:
    """Turn the loop of the facade until `probe` returns something true."""
    eventually(probe, pause=partial(system.scheduler.turn, 0.02))


def test_all_subscriptions_get_the_messages_that_arrive_from_then_on(
    system: MemorySystem, subscriptions: Subscriptions
) -> None:
    """Messages come in the order in which a node received them, also one with an older id."""
    system.store_message("before")
    with subscriptions.subscribed() as one, subscriptions.subscribed() as two:
        older_id = ids.new_id()
        entries = [system.store_message("a"), system.store_message("slow", older_id), system.store_message("b")]
        assert entries == take(one, 3) == take(two, 3)
    with subscriptions.subscribed() as later:
        assert [] == later.take(0.05)
        assert [system.store_message("c")] == take(later, 1)


def test_a_long_poll_waits_at_the_node_until_a_message_arrives() -> None:
    """The node is polled again only after it has answered, and it answers as soon as it has a message."""
    system = MemorySystem(partial(MemoryNode, tail_s=30.0), threaded=True)
    subscriptions = Subscriptions(system.scheduler, system.client)
    with subscriptions.subscribed() as subscription:
        turn_until(system, lambda: len(long_polls(system, 0)) == 2)  # the first poll asks where the journal ends
        assert [] == subscription.take(0.05)
        assert 2 == len(long_polls(system, 0))
        assert [entry := system.store_message("a")] == take(subscription, 1)
        assert entry.id == system.client.page("").entries[-1].id
        turn_until(system, lambda: len(long_polls(system, 0)) == 3)
        assert [] == subscription.take(0.05)
        assert 3 == len(long_polls(system, 0))
        for node in system.nodes.values():
            node.stop()


def test_other_requests_have_their_turn_while_many_subscriptions_are_served(system: MemorySystem) -> None:
    """The delivery pauses after a number of subscriptions, and reaches all of them."""
    pauses: list[int] = []
    ready = system.scheduler.event()
    follower = JournalFollower(system.client, ready, lambda: pauses.append(1), max_store_ms=1, now_ms=ids.now_ms)
    follower.subscriptions = {Subscription(system.scheduler.event()) for _ in range(3 * DELIVERIES_PER_TURN)}
    message = Entry(ids.new_id(), "a")
    follower.deliver([message])

    assert 3 == len(pauses)
    assert all([message] == subscription.take(0.0) for subscription in follower.subscriptions)


def test_another_node_is_followed_when_one_dies(system: MemorySystem, subscriptions: Subscriptions) -> None:
    """Its journal has another order, so the messages that it received before are read by id, once."""
    with subscriptions.subscribed() as subscription:
        first = system.store_message("a")
        assert [first] == take(subscription, 1)
        for node in NODES:
            system.transport.kill(node)
        begin = len(system.transport.called)
        turn_until(system, lambda: NODES[1] in long_polls(system, begin))  # the last poll of the first node has ended
        second = system.store_message("b", ids.first_id(ids.now_ms() - 9_000))
        system.transport.revive(NODES[1])
        assert [second] == take(subscription, 1)
        third = system.store_message("c")
        assert [third] == take(subscription, 1)


def test_one_journal_is_followed_while_its_node_answers(system: MemorySystem, subscriptions: Subscriptions) -> None:
    """The other nodes are not polled when they are back."""
    for node in NODES[:2]:
        system.transport.kill(node)
    with subscriptions.subscribed() as subscription:
        for node in NODES[:2]:
            system.transport.revive(node)
            system.detector.clear(node)
        begin = len(system.transport.called)
        system.store_message("a")
        take(subscription, 1)
        turn_until(system, lambda: long_polls(system, begin))
        assert {NODES[2]} == set(long_polls(system, begin))


def test_a_slow_subscription_ends_after_its_backlog() -> None:
    """The backlog is limited, and no message is left out silently."""
    subscription = Subscription(Scheduler().event(), backlog_messages=3)
    messages = [Entry(ids.new_id(), "x") for _ in range(4)]
    subscription.put(messages[:3])
    subscription.put(messages[3:])
    subscription.put([])
    assert messages[:3] == subscription.take(0.0)
    subscription.put(messages[3:])

    assert subscription.take(0.0) is None


def test_a_defect_while_polling_does_not_end_the_subscriptions(system: MemorySystem, logged: list[EventDict]) -> None:
    """It is logged, and the next poll delivers the messages."""
    calls = itertools.count(1)

    def failing_once() -> int:
        if next(calls) == 5:
            raise ZeroDivisionError
        return ids.now_ms()

    subscriptions = Subscriptions(system.scheduler, system.client, retry_s=0.005, now_ms=failing_once)
    with subscriptions.subscribed() as subscription:
        turn_until(system, lambda: [line for line in logged if line["log_level"] == "error"])
        assert [system.store_message("a")] == take(subscription, 1)
    assert ["unexpected exception while following"] == [
        line["event"] for line in logged if line["log_level"] == "error"
    ]


class SlowNode(MemoryNode):
    """A node whose first answer to a follower waits until a test lets it go.

    Args:
        polled: set by the node when it has the first poll.
        may_answer: set by the test.
    """

    def __init__(
        self, address: str, tables: SharedTables, polled: threading.Event, may_answer: threading.Event
    ) -> None:
        super().__init__(address, tables, tail_s=TAIL_S)
        self._polled, self._may_answer = polled, may_answer

    async def tail(self, request: Tail) -> Reply:
        """See MemoryNode."""
        reply = await super().tail(request)
        if request.journal and not self._polled.is_set():
            self._polled.set()
            assert self._may_answer.wait(10.0)
        return reply


def test_a_subscription_that_begins_when_the_last_one_ends_gets_all_messages_from_then_on() -> None:
    """A long poll in flight for the ended subscription is not the first answer for the new one."""
    polled, may_answer = threading.Event(), threading.Event()
    system = MemorySystem(partial(SlowNode, polled=polled, may_answer=may_answer), threaded=True)
    subscriptions = Subscriptions(system.scheduler, system.client)
    with subscriptions.subscribed():
        turn_until(system, polled.is_set)
    with subscriptions.subscribed() as subscription:
        may_answer.set()
        entry = system.store_message("a")
        assert [entry] == take(subscription, 1)
        assert [] == subscription.take(0.05)


def test_a_stop_ends_all_subscriptions(subscriptions: Subscriptions) -> None:
    """Subscriptions that begin later end at once."""
    with subscriptions.subscribed() as one:
        assert [] == one.take(0.0)
        subscriptions.stop()
        assert one.take(1.0) is None
    with subscriptions.subscribed() as two:
        assert two.take(1.0) is None


def test_a_subscription_fails_if_no_node_answers_in_time(system: MemorySystem) -> None:
    """The error says that no node delivers new messages."""
    subscriptions = Subscriptions(system.scheduler, system.client, ready_timeout_s=0.05)
    for node in NODES:
        system.transport.kill(node)
    with pytest.raises(UnavailableError, match="no node delivers new messages"), subscriptions.subscribed():
        raise AssertionError


def test_a_slow_client_is_limited_in_bytes_and_takes_a_few_at_a_time() -> None:
    """Large messages end a subscription long before their number does, and no client gets all of them at once."""
    scheduler = Scheduler()
    text = "x" * (TAKEN_BYTES // 4)
    subscription = Subscription(scheduler.event(), backlog_bytes=2 * TAKEN_BYTES)
    subscription.put([Entry(str(number), text) for number in range(8)])

    taken = [subscription.take(0.0) or [], subscription.take(0.0) or []]
    assert [["0", "1", "2", "3"], ["4", "5", "6", "7"]] == [[one.id for one in part] for part in taken]
    assert [] == subscription.take(0.0)
    subscription.put([Entry(str(number), text) for number in range(9)])
    assert subscription.take(0.0) is None
