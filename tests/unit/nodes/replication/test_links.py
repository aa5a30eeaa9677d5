"""Tests of nodes.replication.links: what the answer of another replica means for a forwarded append."""

import asyncio
from typing import cast

import pytest

from common.errors import DisconnectedError, PeerError, TimedOutError, UnreachableError
from common.protocol.codec import Reply, Request
from common.protocol.content import Entry
from common.protocol.messages import Append, Appended, Code, Failure, State, Status
from common.protocol.vectors import VectorEntry
from common.rpc.pipelined import PipelinedTransport
from nodes.replication.core.claims import KeyedAppend
from nodes.replication.core.effects import AppendOutcome, FinishAppend
from nodes.replication.core.machine import Core
from nodes.replication.links import Links

OWNER = "b:1"
ENTRY = Entry("id", "text", '{"a":1}', "key")
APPEND = KeyedAppend(7, ENTRY, "digest", forwarded=False)


class AnsweringTransport:
    """A transport that gives one answer to each call, or raises it; keeps the requests."""

    def __init__(self, answer: Reply | PeerError) -> None:
        self._answer = answer
        self.requests: list[tuple[str, Request]] = []

    async def call(self, address: str, request: Request, *, timeout_s: float) -> Reply:  # noqa: ARG002
        """See PipelinedTransport."""
        self.requests.append((address, request))
        if isinstance(self._answer, PeerError):
            raise self._answer
        return self._answer


@pytest.mark.parametrize(
    ("outcome", "answer"),
    [
        (AppendOutcome.STORED, Appended(node=OWNER, stored_as=("first",), vector=(VectorEntry(3, 9),))),
        (AppendOutcome.CONFLICT, Appended(node=OWNER, stored_as=("id",), conflicts=(0,))),
        (AppendOutcome.UNKNOWN, Failure(code=Code.FAILED, reason="a full disk")),
        (AppendOutcome.REFUSED, Failure(code=Code.STARTING, reason="joining")),
        (AppendOutcome.UNKNOWN, Status(service="logging-service", state=State.READY)),
        (AppendOutcome.REFUSED, UnreachableError(OWNER, "no connection")),
        (AppendOutcome.UNKNOWN, DisconnectedError(OWNER, "the connection broke")),
        (AppendOutcome.UNKNOWN, TimedOutError(OWNER, "no reply")),
    ],
)
def test_a_forwarded_append_ends_as_its_owner_says(outcome: AppendOutcome, answer: Reply | PeerError) -> None:
    """Only what was certainly not done is refused; no answer, or a strange one, leaves the outcome unknown."""
    transport = AnsweringTransport(answer)
    (finish,) = asyncio.run(forwarded(transport, APPEND))

    assert outcome is finish.outcome
    if outcome is AppendOutcome.STORED:
        assert ("first", 3, 9) == (finish.message_id, finish.origin, finish.upto)
    assert [(OWNER, Append(entries=(ENTRY,), forwarded=True))] == transport.requests


def test_appends_of_one_turn_are_forwarded_together() -> None:
    """Each learns its own outcome from the answer to the batch."""
    appends = [KeyedAppend(7, Entry(str(number), "text", key="key"), "digest", forwarded=False) for number in range(4)]
    answer = Appended(
        node=OWNER, stored_as=("a", "b", "c", "d"), conflicts=(1,), expired=(2,), vector=(VectorEntry(3, 9),)
    )
    transport = AnsweringTransport(answer)
    finishes = asyncio.run(forwarded(transport, *appends))

    expected = [AppendOutcome.STORED, AppendOutcome.CONFLICT, AppendOutcome.EXPIRED, AppendOutcome.STORED]
    assert expected == [finish.outcome for finish in finishes]
    assert ("a", "d") == (finishes[0].message_id, finishes[3].message_id)
    assert [(OWNER, Append(entries=tuple(one.entry for one in appends), forwarded=True))] == transport.requests


async def forwarded(transport: AnsweringTransport, *appends: KeyedAppend) -> list[FinishAppend]:
    """How appends end that are forwarded in one turn of the loop."""
    started: list[asyncio.Task[None]] = []
    links = Links(
        cast(Core, None),
        cast(PipelinedTransport, transport),
        wake=lambda: None,
        start=lambda work: started.append(asyncio.create_task(work)),
    )
    return await asyncio.gather(*(links.forward(append, 1, OWNER, None) for append in appends))
