"""Tests of nodes.log and nodes.messages."""

import asyncio
import logging

import pytest

from common import ids
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
    Reply,
    Request,
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

    assert Stored(id=message_id, node=NODE) == ask(node, Append(id=message_id, msg="a"))
    assert Page(entries=(Entry(message_id, "a"),), next=None, node=NODE) == ask(node, Read(after="", limit=10))


def test_each_message_received_is_one_line_that_tells_which_node(
    node: log.LoggingNode, caplog: pytest.LogCaptureFixture
) -> None:
    """Id, node and text stand in one line, the text cut at 200 characters and without line breaks of its own."""
    message_id = ids.new_id()
    with caplog.at_level(logging.INFO):
        ask(node, Append(id=message_id, msg="one\ntwo " + "x" * 1_000))

    (line,) = caplog.messages
    assert f"stored id={message_id} node={NODE} msg='one\\ntwo " + "x" * 192 + "'" == line


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


def test_a_full_page_tells_where_to_go_on() -> None:
    """A page that reached its limit in messages or bytes has a cursor, a shorter one is the last."""
    entries = [Entry(ids.new_id(), "x") for _ in range(3)]
    large = [Entry(ids.new_id(), "x" * MESSAGE_BYTES) for _ in range(PAGE_BYTES // MESSAGE_BYTES + 5)]

    assert Page(entries=tuple(entries), next=None, node=NODE) == log.page(entries, limit=4, node=NODE)
    assert Page(entries=tuple(entries), next=entries[2].id, node=NODE) == log.page(entries, limit=3, node=NODE)
    cut = log.page(large, limit=1_000, node=NODE)
    assert (PAGE_BYTES // MESSAGE_BYTES, cut.entries[-1].id) == (len(cut.entries), cut.next)


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
