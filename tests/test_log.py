"""Tests of nodes.log and nodes.messages."""

import asyncio
from typing import Any

import pytest
from structlog.typing import EventDict

from common import ids
from common.codec import Reply, Request
from common.errors import InvalidMessageError
from common.wire import (
    MESSAGE_BYTES,
    PAGE_BYTES,
    Append,
    Code,
    Describe,
    Description,
    Entry,
    Failure,
    Lookup,
    Page,
    Ping,
    Read,
    State,
    Status,
    Stored,
)
from nodes import log, messages
from nodes.store import MemoryStore

NODE = "127.0.0.1:5002"


def ask(node: log.LoggingNode, request: Request) -> Reply:
    """The node's reply."""
    return asyncio.run(node.handle(request))


@pytest.fixture
def node() -> log.LoggingNode:
    """A logging node with a store."""
    made = log.LoggingNode(NODE)
    made.open(MemoryStore())
    return made


def test_a_message_is_stored_and_read(node: log.LoggingNode) -> None:
    """The replies name the node."""
    message_id = ids.new_id()

    stored, page = ask(node, Append(id=message_id, msg="a")), ask(node, Read(after="", limit=10))
    assert isinstance(stored, Stored)
    assert isinstance(page, Page)
    assert Stored(id=message_id, node=NODE, took_ms=stored.took_ms) == stored
    assert Page(entries=(Entry(message_id, "a"),), next=None, node=NODE, took_ms=page.took_ms) == page
    assert min(stored.took_ms, page.took_ms) > 0


def test_each_message_received_is_one_line_that_tells_which_node(
    node: log.LoggingNode, logged: list[EventDict]
) -> None:
    """Id, node and text stand in one line, the text cut at 200 characters."""
    message_id = ids.new_id()
    ask(node, Append(id=message_id, msg="one\ntwo " + "x" * 1_000))

    (line,) = logged
    assert ("stored", message_id, NODE) == (line["event"], line["id"], line["node"])
    assert "one\ntwo " + "x" * 192 == line["msg"]


def test_until_it_is_ready_a_node_does_nothing_and_says_how_far_it_is() -> None:
    """A request before the store is open is refused; a ping tells the state."""
    node = log.LoggingNode(NODE)

    assert Status(service="logging-service", state=State.STARTING) == ask(node, Ping())
    node.forming()
    assert Status(service="logging-service", state=State.FORMING) == ask(node, Ping())
    reply = ask(node, Append(id=ids.new_id(), msg="a"))
    assert isinstance(reply, Failure)
    assert (Code.STARTING, f"logging node {NODE} is forming") == (reply.code, reply.reason)
    node.open(MemoryStore())
    assert Status(service="logging-service", state=State.READY) == ask(node, Ping())


class CountingStore(MemoryStore):
    """Remembers how many messages were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    async def read(self, after: str, limit: int, **bounds: Any) -> list[Entry]:
        """See Store."""
        self.asked.append(limit)
        return await super().read(after, limit, **bounds)


async def filled(texts: list[str]) -> tuple[CountingStore, tuple[Entry, ...]]:
    """A store with these texts, and its entries."""
    store = CountingStore()
    entries = tuple(Entry(ids.new_id(), text) for text in texts)
    for entry in entries:
        await store.append(*entry)
    return store, entries


@pytest.mark.parametrize("count", [0, 1, 127, 128, 129, 500])
def test_a_full_page_tells_where_to_go_on(count: int) -> None:
    """A page that reached its limit has a cursor, a shorter one is the last, whatever the chunks."""

    async def run() -> None:
        store, entries = await filled(["x"] * count)
        whole = await log.read_page(store, Read(after="", limit=count + 1), node=NODE)
        assert (entries, None) == (whole.entries, whole.next)
        if count:
            full = await log.read_page(store, Read(after="", limit=count), node=NODE)
            assert (entries, entries[-1].id) == (full.entries, full.next)

    asyncio.run(run())


def test_large_texts_end_a_page_early_and_are_not_read_in_vain() -> None:
    """A page ends after the text that reaches its limit in bytes; hardly more than the page is read for it."""

    async def run() -> None:
        store, entries = await filled(["x" * MESSAGE_BYTES] * 500)
        page = await log.read_page(store, Read(after="", limit=1_000), node=NODE)
        fit = PAGE_BYTES // MESSAGE_BYTES
        assert (entries[:fit], entries[fit - 1].id) == (page.entries, page.next)
        assert [log.FIRST_CHUNK] == store.asked

        store, entries = await filled(["x" * 5_000] * 1_000)
        page = await log.read_page(store, Read(after="", limit=1_000), node=NODE)
        assert PAGE_BYTES // 5_000 + 1 == len(page.entries)
        assert sum(store.asked) <= len(page.entries) + 1

    asyncio.run(run())


def test_requests_for_others_are_refused(node: log.LoggingNode) -> None:
    """A logging node is no registry, and the messages node no logging node."""
    with pytest.raises(InvalidMessageError, match="a logging node does not answer Lookup"):
        ask(node, Lookup(name="x"))
    with pytest.raises(InvalidMessageError, match="the messages node does not answer Lookup"):
        asyncio.run(messages.handle(Lookup(name="x")))


def test_the_messages_node_answers_its_static_text() -> None:
    """It says who it is, and that it is not implemented yet."""
    assert Description(text="not implemented yet") == asyncio.run(messages.handle(Describe()))
    assert Status(service="messages-service", state=State.READY) == asyncio.run(messages.handle(Ping()))
