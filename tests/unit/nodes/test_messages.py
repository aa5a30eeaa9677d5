"""Tests of nodes.messages."""

import asyncio

import pytest

from common.errors import InvalidMessageError
from common.protocol.admin import Inspect, Report
from common.protocol.messages import Describe, Description, Lookup, Ping, State, Status
from nodes import messages


def test_the_messages_node_answers_its_static_text() -> None:
    """The text says that it is not implemented yet."""
    assert Description(text="not implemented yet") == asyncio.run(messages.handle(Describe()))


def test_the_messages_node_reports_its_state() -> None:
    """It answers a ping, and an operator's request for a report."""
    assert Status(service="messages-service", state=State.READY) == asyncio.run(messages.handle(Ping()))
    report = asyncio.run(messages.handle(Inspect()))
    assert isinstance(report, Report)
    assert ("messages-service", State.READY) == (report.service, report.state)


def test_the_messages_node_refuses_requests_for_other_services() -> None:
    """A Lookup, which is for a registry, is an invalid message."""
    with pytest.raises(InvalidMessageError, match="the messages node does not answer Lookup"):
        asyncio.run(messages.handle(Lookup(name="x")))
