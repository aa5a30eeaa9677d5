"""Tests of facade.client.appends: what is known about a write that failed."""

import pytest

from common import ids
from common.errors import OutcomeUnknownError, UnavailableError
from common.protocol.codec import Reply
from common.protocol.content import Entry
from common.protocol.messages import Append, Code, Failure
from tests.support.facade import NODES, MemorySystem
from tests.support.memory_node import MemoryNode


def test_a_retry_after_an_unknown_outcome_stores_the_message_once(system: MemorySystem) -> None:
    """A node that stored the message and did not answer leads to no second copy."""
    system.transport.cut(NODES[0])
    system.client.append(Entry(ids.new_id(), "once"))

    assert ["once"] == [entry.msg for entry in system.client.page("").entries]


def test_a_write_that_reached_no_node_is_certainly_not_stored(system: MemorySystem) -> None:
    """The error says so if no attempt could be sent, and it is raised within the deadline."""
    for node in NODES:
        system.transport.kill(node)

    with pytest.raises(UnavailableError, match="logging-service is not available: 127"):
        system.client.append(Entry(ids.new_id(), "a"))
    assert 9.0 < system.now_s <= 10.0


def test_a_write_that_was_sent_and_not_answered_has_an_unknown_outcome(system: MemorySystem) -> None:
    """One attempt that was sent suffices: the error has the message id, and says that the message may be stored."""
    system.transport.kill(NODES[0])
    system.transport.cut(NODES[1])
    system.transport.kill(NODES[2])
    message_id = ids.new_id()

    with pytest.raises(OutcomeUnknownError, match="it may still be stored") as caught:
        system.client.append(Entry(message_id, "a"))
    assert message_id == caught.value.message_id


class RefusingNode(MemoryNode):
    """A node that refuses appends, if it is the second one."""

    async def append(self, request: Append) -> Reply:
        """See MemoryNode."""
        if self.address == NODES[1]:
            return Failure(code=Code.AHEAD, reason="ahead")
        return await super().append(request)


def test_a_refusal_after_an_attempt_without_an_answer_leaves_the_outcome_unknown() -> None:
    """The first node may have stored the message that the second one refuses."""
    system = MemorySystem(RefusingNode)
    system.transport.cut(NODES[0])

    with pytest.raises(OutcomeUnknownError, match="it may still be stored"):
        system.client.append(Entry(ids.new_id(), "a"))
    assert list(NODES[:2]) == system.attempts()
