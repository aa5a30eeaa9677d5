"""What carries a request to an address, and how one is asked through it."""

import time
from typing import Protocol, TypeVar

from common.errors import FailedError, RefusedError
from common.protocol import messages
from common.protocol.codec import Reply, Request
from common.protocol.messages import Code, Failure
from common.telemetry import tracing

ReplyType = TypeVar("ReplyType", bound=messages.WireMessage)


class Transport(Protocol):
    """Carries one request to one address: `ZmqTransport`, or its in-memory twin in `common.loopback`."""

    def call(self, address: str, request: Request, *, timeout_s: float) -> Reply:
        """The reply, also when it is a Failure.

        Raises:
            UnreachableError, DisconnectedError, TimedOutError, FailedError: there is no valid reply.
        """


def ask(
    transport: Transport, address: str, request: Request, expect: type[ReplyType], *, timeout_s: float
) -> ReplyType:
    """The reply of type `expect` to one request.

    Raises:
        PeerError: any of its kinds; a Failure in the reply becomes RefusedError or FailedError.
    """
    with tracing.client_span(type(request).__name__, address):
        reply = transport.call(address, request, timeout_s=timeout_s)
    return expected(address, reply, expect)


def expected(address: str, reply: Reply, expect: type[ReplyType]) -> ReplyType:
    """The reply, if it has the expected type; else raises RefusedError or FailedError."""
    if isinstance(reply, expect):
        return reply
    if not isinstance(reply, Failure):
        raise FailedError(address, f"answered {type(reply).__name__} where {expect.__name__} belongs")
    reason = f"{reply.code}: {reply.reason}"
    raise FailedError(address, reason) if reply.code is Code.FAILED else RefusedError(address, reason, reply.code)


def left_ms(ends: float) -> int:
    """Milliseconds until `ends` on the monotonic clock, rounded up, so that a wait is never a busy loop."""
    return max(0, int((ends - time.monotonic()) * 1_000) + 1)
