"""Turning a request frame into exactly one reply: invalid frames and failed handlers become a Failure."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import structlog

from common.errors import InvalidMessageError, ThreefoldError
from common.protocol import codec
from common.protocol.codec import Reply, Request
from common.protocol.messages import Code, Failure, failure
from common.telemetry import request_context, tracing

log = structlog.get_logger()

Handler = Callable[[Request], Awaitable[Reply]]


class DirectHandler(NamedTuple):
    """A handler that needs no task of its own for each request.

    Attributes:
        kinds: the types of requests that it handles.
        take: handles one request, and calls the given callback exactly once with the reply, at once or later.
    """

    kinds: tuple[type[Request], ...]
    take: Callable[[Request, Callable[[Reply], None]], None]


NO_DIRECT_HANDLER = DirectHandler((), lambda _request, _reply: None)


class IncomingRequest(NamedTuple):
    """A request as it was received.

    Attributes:
        envelope: the frames that address the reply; the first one identifies the connection.
        body: the frames of the request; a valid request has one.
        caller: the key name of the client, "" if its key has been removed; None without keys.
    """

    envelope: list[bytes]
    body: list[bytes]
    caller: str | None


async def answer_frame(handler: Handler, frame: bytes) -> Reply:
    """The reply to the request in a frame."""
    try:
        request, source = codec.decode_request(frame)
    except InvalidMessageError as error:
        return failure(Code.INVALID, str(error))
    return await answer_request(handler, request, source)


async def answer_request(handler: Handler, request: Request, source: request_context.RequestContext | None) -> Reply:
    """The reply to a request; `source` is the context of the client request that caused it."""
    with request_context.use(source), tracing.server_span(type(request).__name__):
        return await _answer(handler, request)


async def _answer(handler: Handler, request: Request) -> Reply:
    try:
        return await handler(request)
    except InvalidMessageError as error:
        return failure(Code.INVALID, str(error))
    except ThreefoldError as error:
        return failure(Code.FAILED, str(error))
    except Exception:
        return defect()


def defect() -> Failure:
    """Log the exception that is being handled, a defect in our code; the reply does not contain the traceback."""
    log.exception("unexpected exception in a handler")  # noqa: LOG004 (its callers handle an exception)
    return Failure(code=Code.FAILED, reason="internal error")
