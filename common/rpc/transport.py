"""The interfaces of a transport, blocking and for an event loop, and sending a request with a typed reply."""

import time
from typing import Protocol, TypeVar

from common.errors import FailedError, InvalidMessageError, RefusedError
from common.protocol import codec, messages
from common.protocol.codec import Reply, Request
from common.protocol.messages import Code, Failure
from common.telemetry import tracing

ReplyType = TypeVar("ReplyType", bound=messages.WireMessage)


class Transport(Protocol):
    """Sends a request to an address and waits for the reply; `common.rpc.memory` has the in-memory twin."""

    def call(self, address: str, request: Request, *, timeout_s: float) -> Reply:
        """Send a request and return the reply, which may be a Failure.

        Raises:
            UnreachableError: the request was not sent.
            DisconnectedError, TimedOutError, FailedError: the request was sent, and there is no valid reply.
        """


class AsyncTransport(Protocol):
    """The same for an event loop; `common.rpc.memory` has the in-memory twin."""

    async def call(self, address: str, request: Request, *, timeout_s: float) -> Reply:
        """See Transport.call."""


def ask(
    transport: Transport, address: str, request: Request, expect: type[ReplyType], *, timeout_s: float
) -> ReplyType:
    """Send a request and return the reply, which must be of type `expect`.

    Raises:
        PeerError: the attempt failed; a reply that is a Failure becomes RefusedError or FailedError.
    """
    with tracing.client_span(type(request).__name__, address):
        reply = transport.call(address, request, timeout_s=timeout_s)
    return expected(address, reply, expect)


def decoded(address: str, frame: bytes) -> Reply:
    """The reply in a frame; raises FailedError if the frame is not a valid reply."""
    try:
        return codec.decode_reply(frame)
    except InvalidMessageError as error:
        raise FailedError(address, f"answered with an invalid frame: {error}") from error


def expected(address: str, reply: Reply, expect: type[ReplyType]) -> ReplyType:
    """Return the reply if it has the expected type; else raise RefusedError or FailedError."""
    if isinstance(reply, expect):
        return reply
    if not isinstance(reply, Failure):
        raise FailedError(address, f"answered {type(reply).__name__} where {expect.__name__} belongs")
    reason = f"{reply.code}: {reply.reason}"
    raise FailedError(address, reason) if reply.code is Code.FAILED else RefusedError(address, reason, reply.code)


def left_ms(ends_s: float) -> int:
    """Milliseconds until `ends_s` of the monotonic clock, rounded up to avoid a busy loop; at least 0."""
    return max(0, int((ends_s - time.monotonic()) * 1_000) + 1)
