"""Tests of facade.streams.subscriptions and of the streams that stand on it, over the in-memory system."""

import itertools
import json
import threading
import time
from collections.abc import Callable, Generator
from functools import partial
from itertools import islice
from typing import TypeVar

import pytest
from structlog.typing import EventDict

from common import ids
from common.errors import UnavailableError
from common.protocol.codec import Reply
from common.protocol.messages import PAGE_MESSAGES, Entry, Tail
from facade.client.session import Session
from facade.server.scheduler import Scheduler
from facade.streams import responses, subscriptions
from facade.streams.subscriptions import DELIVERIES_PER_TURN, Subscriptions
from tests.support.facade import NODES, InThreads, World
from tests.support.memory_node import MemoryNode, SharedTables
from tests.support.waiting import eventually

T = TypeVar("T")

TAIL_S = 0.05  # for which nodes keep a question waiting here


@pytest.fixture
def world() -> World:
    """A whole system in memory; who waits in it does not take any time."""
    return following_world(partial(MemoryNode, tail_s=TAIL_S))


def following_world(node: Callable[[str, SharedTables], MemoryNode]) -> World:
    """A whole system in memory, in whose nodes a question may wait while the loop turns."""
    world = World(node)
    world.carrier = InThreads(world.scheduler, world.transport)
    world.client = world.client_with(Session())
    return world


@pytest.fixture
def live(world: World) -> Subscriptions:
    """What tells what comes there."""
    return Subscriptions(world.scheduler, world.client, retry_s=0.005)


def store(world: World, text: str, message_id: str | None = None) -> Entry:
    """A message that a node got."""
    entry = Entry(message_id or ids.new_id(), text)
    world.store([entry])
    return entry


def told(follower: subscriptions.Subscription, count: int) -> list[Entry]:
    """So many messages, and no more of those that come with them."""
    found: list[Entry] = []

    def enough() -> bool:
        found.extend(Entry(heard.id, heard.msg) for heard in follower.take(0.05) or [])
        return len(found) >= count

    eventually(enough)
    return found


def turned(world: World, probe: Callable[[], T | None]) -> T:
    """What `probe` returns when it is neither None nor False, while the loop of the facade turns."""
    return eventually(probe, pause=partial(world.scheduler.turn, 0.02))


def test_followers_are_told_what_comes_and_nothing_else(world: World, live: Subscriptions) -> None:
    """Each of them, in the order in which a node got it, also what has an older id."""
    store(world, "before")
    with live.subscribed() as one, live.subscribed() as two:
        late = ids.new_id()
        entries = [store(world, "a"), store(world, "slow", late), store(world, "b")]
        assert entries == told(one, 3) == told(two, 3)
    with live.subscribed() as three:
        assert [] == three.take(0.05)
        assert [store(world, "c")] == told(three, 1)


def test_a_follower_is_told_at_once_and_a_question_waits_at_the_node() -> None:
    """Long poll: a node is asked again when it has answered, and it answers when there is something."""
    world = following_world(partial(MemoryNode, tail_s=30.0))
    live = Subscriptions(world.scheduler, world.client)
    with live.subscribed() as follower:
        turned(world, lambda: len(questions(world, 0)) == 2)  # the first one is for the end of the journal
        assert [] == follower.take(0.05)
        assert 2 == len(questions(world, 0))
        assert [entry := store(world, "a")] == told(follower, 1)
        assert entry.id == world.client.page("").entries[-1].id
        turned(world, lambda: len(questions(world, 0)) == 3)
        assert [] == follower.take(0.05)
        assert 3 == len(questions(world, 0))
        for node in world.nodes.values():
            node.stop()


def questions(world: World, begin: int) -> list[str]:
    """Who was asked for what comes, after so many requests of any kind."""
    return [address for address, request in world.transport.called[begin:] if isinstance(request, Tail)]


def test_while_many_followers_are_told_others_have_their_turn(world: World) -> None:
    """Telling pauses after so many, and all are told."""
    pauses: list[int] = []
    tail = subscriptions.JournalFollower(world.client, world.scheduler.event(), lambda: pauses.append(1), 1, ids.now_ms)
    tail.subscriptions = {subscriptions.Subscription(world.scheduler.event()) for _ in range(3 * DELIVERIES_PER_TURN)}
    heard = subscriptions.StreamedMessage(ids.new_id(), "a")
    tail.deliver([heard])

    assert 3 == len(pauses)
    assert all([heard] == follower.take(0.0) for follower in tail.subscriptions)


def test_another_node_goes_on_where_one_died(world: World, live: Subscriptions) -> None:
    """The journal of the other one has another order: what it got before it is asked is read by id, once."""
    with live.subscribed() as follower:
        first = store(world, "a")
        assert [first] == told(follower, 1)
        for node in NODES:
            world.transport.kill(node)
        begin = len(world.transport.called)
        turned(world, lambda: NODES[1] in questions(world, begin))  # the last question to the first one has ended
        second = store(world, "b", ids.first_id(ids.now_ms() - 9_000))
        world.transport.revive(NODES[1])
        assert [second] == told(follower, 1)
        third = store(world, "c")
        assert [third] == told(follower, 1)


def test_the_node_that_answered_is_asked_again(world: World, live: Subscriptions) -> None:
    """One journal is followed, as long as its node answers."""
    for node in NODES[:2]:
        world.transport.kill(node)
    with live.subscribed() as follower:
        for node in NODES[:2]:
            world.transport.revive(node)
            world.detector.clear(node)
        begin = len(world.transport.called)
        store(world, "a")
        told(follower, 1)
        asked = set(turned(world, lambda: questions(world, begin)))

    assert {NODES[2]} == asked


def test_who_is_too_slow_is_cut_after_what_waited() -> None:
    """A queue has a limit; nothing is left out silently."""
    follower = subscriptions.Subscription(Scheduler().event(), backlog_messages=3)
    entries = [subscriptions.StreamedMessage(ids.new_id(), "x") for _ in range(4)]
    follower.put(entries[:3])
    follower.put(entries[3:])
    follower.put([])
    assert entries[:3] == follower.take(0.0)
    follower.put(entries[3:])

    assert follower.take(0.0) is None


def test_a_defect_ends_nothing(world: World, logged: list[EventDict]) -> None:
    """It is told, and the followers go on."""
    asked = itertools.count(1)

    def breaking_once() -> int:
        if next(asked) == 5:
            raise ZeroDivisionError
        return ids.now_ms()

    live = Subscriptions(world.scheduler, world.client, retry_s=0.005, now_ms=breaking_once)
    with live.subscribed() as follower:
        turned(world, lambda: [line for line in logged if line["log_level"] == "error"])
        assert [store(world, "a")] == told(follower, 1)
    assert ["unexpected exception while following"] == [
        line["event"] for line in logged if line["log_level"] == "error"
    ]


class SlowNode(MemoryNode):
    """Holds its first answer to who follows its journal until it may go on."""

    asked, go_on = threading.Event(), threading.Event()

    async def tail(self, request: Tail) -> Reply:
        """See MemoryNode."""
        reply = await super().tail(request)
        if request.journal and not self.asked.is_set():
            self.asked.set()
            assert self.go_on.wait(10.0)
        return reply


def test_who_comes_when_the_last_one_leaves_is_told_all_from_then_on() -> None:
    """A question on its way for those who left is not the first answer for those who come."""
    world = following_world(partial(SlowNode, tail_s=TAIL_S))
    live = Subscriptions(world.scheduler, world.client)
    with live.subscribed():
        turned(world, SlowNode.asked.is_set)
    with live.subscribed() as follower:
        SlowNode.go_on.set()
        entry = store(world, "a")
        assert [entry] == told(follower, 1)
        assert [] == follower.take(0.05)


def test_a_stop_ends_all_followers(live: Subscriptions) -> None:
    """Those that are there, and those that come."""
    with live.subscribed() as one:
        assert [] == one.take(0.0)
        live.stop()
        assert one.take(1.0) is None
    with live.subscribed() as two:
        assert two.take(1.0) is None


def test_nobody_to_follow_is_an_error(world: World) -> None:
    """Within a limit."""
    live = Subscriptions(world.scheduler, world.client, ready_timeout_s=0.05)
    for node in NODES:
        world.transport.kill(node)
    with pytest.raises(UnavailableError, match="no node delivers new messages"), live.subscribed():
        raise AssertionError


def test_events_go_on_after_an_id_and_tell_nothing_twice(world: World, live: Subscriptions) -> None:
    """History first, then what comes; what both have is told once."""
    entries = [store(world, str(number)) for number in range(5)]
    chunks = responses.events(world.client, live, after=entries[1].id, reconnected=False, must_end=lambda: False)
    assert next(chunks).startswith(b"retry: ")  # it follows from now on, and has not read what was
    with live.subscribed() as witness:
        both = store(world, "both")
        assert [both] == told(witness, 1)
    found = _events(chunks, 4)
    new = store(world, "new")

    assert [*entries[2:], both] == found
    assert [new] == _events(chunks, 1)
    chunks.close()


def test_who_comes_back_is_told_what_was_slower(world: World, live: Subscriptions) -> None:
    """A message with an id below the last one may have come after it; twice is better than never."""
    late = ids.new_id()
    seen = store(world, "seen")
    slow = store(world, "slow", late)
    chunks = responses.events(world.client, live, after=seen.id, reconnected=True, must_end=lambda: False)

    assert [slow, seen] == _events(chunks, 2)
    chunks.close()


def test_silence_is_told_and_a_client_that_left_ends_it(world: World, live: Subscriptions) -> None:
    """A comment keeps the connection; nothing goes on for nobody."""
    left: list[bool] = []
    chunks = responses.events(
        world.client,
        live,
        after=None,
        reconnected=False,
        must_end=lambda: bool(left),
        keep_alive_s=0.0,
        check_interval_s=0.01,
    )

    assert [b"retry: 1000\n\n", b": still here\n\n"] == list(islice(chunks, 2))
    left.append(True)
    assert [] == list(chunks)


def test_a_client_that_leaves_ends_its_answer_at_once(world: World, live: Subscriptions) -> None:
    """Nobody looks again and again whether it is there."""
    gone = world.scheduler.event()
    chunks = responses.events(
        world.client, live, after=None, reconnected=False, must_end=lambda: False, closed=gone, check_interval_s=60.0
    )
    assert next(chunks).startswith(b"retry: ")
    world.scheduler.call_later(0.01, gone.set)
    began_s = time.monotonic()

    assert [] == list(chunks)
    assert time.monotonic() - began_s < 5.0


def test_who_may_read_no_more_gets_no_more_of_what_was(world: World, live: Subscriptions) -> None:
    """It ends between two pages, too, when its token goes while it reads history."""
    first = store(world, "first")
    world.store([Entry(ids.new_id(), str(number)) for number in range(PAGE_MESSAGES + 1)])
    over: list[bool] = []
    chunks = responses.events(world.client, live, after=first.id, reconnected=False, must_end=lambda: bool(over))

    assert next(chunks).startswith(b"retry: ")
    assert b"id: " in next(chunks) + next(chunks)
    over.append(True)
    assert [] == list(chunks)


def test_a_stream_gives_its_slot_back_once() -> None:
    """When it ends, and when its first chunk fails."""
    slots = responses.StreamSemaphore(1)

    def broken() -> Generator[bytes, None, None]:
        raise UnavailableError("logging-service", "x")
        yield b""

    assert slots.acquire()
    assert not slots.acquire()
    with pytest.raises(UnavailableError):
        responses.Stream(broken(), slots.release)
    assert slots.acquire()
    stream = responses.Stream((chunk for chunk in (b"a", b"b")), slots.release)
    assert [b"a", b"b"] == list(stream)
    stream.close()
    stream.close()
    assert slots.acquire()
    assert not slots.acquire()


def _events(chunks: Generator[bytes, None, None], count: int) -> list[Entry]:
    found: list[Entry] = []
    while len(found) < count:
        for event in next(chunks).decode().split("\n\n"):
            if event.startswith("id: "):
                name, data = event.split("\n")
                fields = json.loads(data.removeprefix("data: "))
                assert fields["id"] == name.removeprefix("id: ")
                found.append(Entry(fields["id"], fields["msg"]))
    return found
