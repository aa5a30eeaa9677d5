"""Tests of common.rpc.handler: each request frame gets exactly one reply."""

import asyncio

import pytest
from structlog.typing import EventDict

from common.errors import InvalidMessageError, StoreError
from common.protocol import codec
from common.protocol.codec import Reply, Request
from common.protocol.messages import Code, Failure, Ping, State, Status
from common.rpc.handler import answer_frame

READY = Status(service="logging-service", state=State.READY)


def answered(frame: bytes, error: Exception | None = None) -> Reply:
    """The reply of a handler that raises `error`, or answers that it is ready."""

    async def handler(_request: Request) -> Reply:
        if error:
            raise error
        return READY

    return asyncio.run(answer_frame(handler, frame))


def test_a_valid_frame_is_handled() -> None:
    """The reply is that of the handler."""
    assert READY == answered(codec.encode(Ping()))


def test_an_invalid_frame_is_refused() -> None:
    """With the reason; the handler is not called."""
    reply = answered(b"\xc1", OSError("must not be called"))

    assert isinstance(reply, Failure)
    assert Code.INVALID == reply.code


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (InvalidMessageError("bad id"), Code.INVALID, "bad id"),
        (StoreError("the disk is full"), Code.FAILED, "the disk is full"),
        (KeyError("secret"), Code.FAILED, "internal error"),
    ],
)
def test_an_error_of_a_handler_is_a_failure(logged: list[EventDict], error: Exception, code: Code, reason: str) -> None:
    """A defect is logged, and the peer does not see its details."""
    reply = answered(codec.encode(Ping()), error)

    assert isinstance(reply, Failure)
    assert (code, reason) == (reply.code, reply.reason)
    defects = ["unexpected exception in a handler"] if isinstance(error, KeyError) else []
    assert defects == [line["event"] for line in logged]
