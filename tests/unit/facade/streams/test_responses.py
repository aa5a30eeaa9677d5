"""Tests of facade.streams.responses: events for clients, over the in-memory system."""

import json
import time
from collections.abc import Generator
from functools import partial
from itertools import islice

import msgspec
import pytest

from common import ids
from common.errors import UnavailableError
from common.protocol.content import Entry
from common.protocol.messages import PAGE_MESSAGES, Page
from common.protocol.search import Search
from facade.api.query import Query
from facade.streams import responses
from facade.streams.responses import Stream, StreamSemaphore
from facade.streams.subscriptions import Subscriptions
from nodes.storage.protocol import Matches
from tests.support.facade import NODES, MemorySystem
from tests.support.memory_node import MemoryNode


@pytest.fixture
def system() -> MemorySystem:
    """A whole system in memory, whose nodes keep a long poll waiting for 50 ms."""
    return MemorySystem(partial(MemoryNode, tail_s=0.05), threaded=True)


def test_events_after_an_id_are_history_and_then_new_messages(
    system: MemorySystem, subscriptions: Subscriptions
) -> None:
    """A message that is in both is sent once."""
    entries = [system.store_message(str(number)) for number in range(5)]
    chunks = responses.events(
        system.client, subscriptions, after=entries[1].id, reconnected=False, must_end=lambda: False
    )
    assert next(chunks).startswith(b"retry: ")  # it has subscribed, and not read the history yet
    with subscriptions.subscribed() as witness:
        both = system.store_message("both")
        assert [both.id] == [message.id for message in witness.take(5.0) or []]
    found = read_events(chunks, 4)
    new = system.store_message("new")

    assert [*entries[2:], both] == found
    assert [new] == read_events(chunks, 1)
    chunks.close()


def test_a_client_that_reconnects_gets_messages_that_arrived_late(
    system: MemorySystem, subscriptions: Subscriptions
) -> None:
    """A message with a smaller id may have arrived after the last one: it is better sent twice than never."""
    older_id = ids.new_id()
    seen = system.store_message("seen")
    slow = system.store_message("slow", older_id)
    chunks = responses.events(system.client, subscriptions, after=seen.id, reconnected=True, must_end=lambda: False)

    assert [slow, seen] == read_events(chunks, 2)
    chunks.close()


def test_a_silent_stream_sends_comments_until_its_client_has_left(
    system: MemorySystem, subscriptions: Subscriptions
) -> None:
    """A comment keeps the connection open."""
    left: list[bool] = []
    chunks = responses.events(
        system.client,
        subscriptions,
        after=None,
        reconnected=False,
        must_end=lambda: bool(left),
        keep_alive_s=0.0,
        check_interval_s=0.01,
    )

    assert [b"retry: 1000\n\n", b": still here\n\n"] == list(islice(chunks, 2))
    left.append(True)
    assert [] == list(chunks)


def test_a_stream_ends_at_once_when_its_client_leaves(system: MemorySystem, subscriptions: Subscriptions) -> None:
    """The event of the connection ends the wait: nothing polls for it."""
    closed_event = system.scheduler.event()
    chunks = responses.events(
        system.client,
        subscriptions,
        after=None,
        reconnected=False,
        must_end=lambda: False,
        closed=closed_event,
        check_interval_s=60.0,
    )
    assert next(chunks).startswith(b"retry: ")
    system.scheduler.call_later(0.01, closed_event.set)
    began_s = time.monotonic()

    assert [] == list(chunks)
    assert time.monotonic() - began_s < 5.0


def test_a_stream_ends_between_two_pages_of_history_when_its_token_is_removed(
    system: MemorySystem, subscriptions: Subscriptions
) -> None:
    """The client gets no further page."""
    first = system.store_message("first")
    system.store([Entry(ids.new_id(), str(number)) for number in range(PAGE_MESSAGES + 1)])
    revoked: list[bool] = []
    chunks = responses.events(
        system.client, subscriptions, after=first.id, reconnected=False, must_end=lambda: bool(revoked)
    )

    assert next(chunks).startswith(b"retry: ")
    assert b"id: " in next(chunks) + next(chunks)
    revoked.append(True)
    assert [] == list(chunks)


def test_a_stream_releases_its_semaphore_once() -> None:
    """At its end, or when its first chunk fails."""
    semaphore = StreamSemaphore(1)

    def broken() -> Generator[bytes, None, None]:
        raise UnavailableError("logging-service", "x")
        yield b""

    assert semaphore.acquire()
    assert not semaphore.acquire()
    with pytest.raises(UnavailableError):
        Stream(broken(), semaphore.release)
    assert semaphore.acquire()
    stream = Stream((chunk for chunk in (b"a", b"b")), semaphore.release)
    assert [b"a", b"b"] == list(stream)
    stream.close()
    stream.close()
    assert semaphore.acquire()
    assert not semaphore.acquire()


def read_events(chunks: Generator[bytes, None, None], count: int) -> list[Entry]:
    """Read so many messages from a stream of events."""
    found: list[Entry] = []
    while len(found) < count:
        for event in next(chunks).decode().split("\n\n"):
            if event.startswith("id: "):
                name, data = event.split("\n")
                fields = json.loads(data.removeprefix("data: "))
                assert fields["id"] == name.removeprefix("id: ")
                found.append(Entry(fields["id"], fields["msg"]))
    return found


def test_events_can_be_searched(system: MemorySystem, subscriptions: Subscriptions) -> None:
    """Both the history and new messages."""
    first, _, third = (system.store_message(text) for text in ("Disk 1", "cpu", "disk 2"))
    chunks = responses.events(
        system.client,
        subscriptions,
        after=ids.previous(first.id),
        reconnected=False,
        search=Search("DISK"),
        must_end=lambda: False,
    )
    assert [first, third] == read_events(chunks, 2)
    system.store_message("cpu")
    last = system.store_message("disk 3")

    assert [last] == read_events(chunks, 1)
    chunks.close()


def test_a_page_of_a_search_is_filled_until_its_deadline(system: MemorySystem) -> None:
    """A node scans for a limited time, so one page may need several scans, and ends with a cursor if it is not full."""
    entries = [system.store_message(f"disk {number}") for number in range(6)]
    wanted = Query(limit=4, search=Search("disk"))
    times = iter([0.0, 1.0, 2.0, 3.0])
    first = Page(entries=(), next=entries[0].id, node="n:1")
    found = responses.searched(system.client, first, wanted, clock=times.__next__)
    late = responses.searched(system.client, first, wanted, clock=iter([0.0, 3.0]).__next__)

    assert ([entry.msg for entry in entries[1:5]], entries[4].id) == ([one.msg for one in found.entries], found.next)
    assert ((), entries[0].id, "n:1") == (late.entries, late.next, late.node)


def test_an_event_with_an_old_time_has_no_id(system: MemorySystem, subscriptions: Subscriptions) -> None:
    """Else a client that reconnects after it would get everything since then again."""
    chunks = responses.events(system.client, subscriptions, after=None, reconnected=False, must_end=lambda: False)
    next(chunks)
    system.store_message("old", ids.first_id(ids.now_ms() - 86_400_000))
    new = system.store_message("new")
    text = ""
    while "new" not in text:
        text += next(chunks).decode()
    chunks.close()

    assert [new.id] == [line.removeprefix("id: ") for line in text.splitlines() if line.startswith("id: ")]
    assert 2 == text.count("data: ")


def test_a_long_search_without_a_match_sends_its_progress(system: MemorySystem, subscriptions: Subscriptions) -> None:
    """A client that reconnects goes on there; a stream of lines begins at once, and may be empty."""
    first, second = (system.store_message("cpu") for _ in range(2))
    nothing = responses.ndjson(system.client, Page(entries=(), next=None, node="n:1"), Query(search=Search("disk")))
    assert b"" == b"".join(Stream(nothing, lambda: None))
    for node in system.nodes.values():
        node.journal.search = partial(ended_scan, second.id)  # type: ignore[method-assign]
    chunks = responses.events(
        system.client,
        subscriptions,
        after=first.id,
        reconnected=False,
        search=Search("disk"),
        must_end=lambda: False,
        keep_alive_s=0.0,
    )
    assert [b"retry: 1000\n\n", f"id: {second.id}\n\n".encode()] == [next(chunks), next(chunks)]
    chunks.close()


async def ended_scan(cursor: str, _wanted: Search, after: str, _limit: int, **_bounds: object) -> Matches:
    """A scan that ended at its deadline, at a cursor, without a match; the next one sees the end."""
    return Matches([], None if after == cursor else cursor)


def test_a_page_of_a_search_is_limited_in_bytes(system: MemorySystem) -> None:
    """And ends with what was found when no node answers any more."""
    entries = [system.store_message("x" * 60_000) for _ in range(40)]
    first = Page(entries=(), next=ids.previous(entries[0].id), node="n:1")
    page = responses.searched(system.client, first, Query(limit=1_000, search=Search("x")))
    assert (18, entries[17].id) == (len(page.entries), page.next)
    for node in NODES:
        system.transport.kill(node)
    short = responses.searched(system.client, page, Query(limit=1_000, search=Search("x")))
    assert (18, entries[17].id) == (len(short.entries), short.next)


@pytest.mark.parametrize("fields", ["{bad", "[]", "5"])
def test_fields_that_are_no_object_are_left_out(fields: str) -> None:
    """Otherwise they would spoil the whole page."""
    body = json.loads(msgspec.json.encode(responses.message_body(Entry(ids.new_id(), "a", fields))))

    assert ("a", False) == (body["msg"], "fields" in body)
