"""How a request is answered, whatever is in its frame and whatever the handler does."""

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
    """A handler without tasks, for requests of some kinds: `take` gets each with a callback, and calls that once."""

    kinds: tuple[type[Request], ...]
    take: Callable[[Request, Callable[[Reply], None]], None]


NO_DIRECT_HANDLER = DirectHandler((), lambda _request, _reply: None)


class IncomingRequest(NamedTuple):
    """What came: from where, what, and, where there are keys, from whom ("" for somebody who is known no more)."""

    envelope: list[bytes]
    body: list[bytes]
    caller: str | None


async def answer_frame(handler: Handler, frame: bytes) -> Reply:
    """The reply to one frame."""
    try:
        request, source = codec.decode_request(frame)
    except InvalidMessageError as error:
        return failure(Code.INVALID, str(error))
    return await answer_request(handler, request, source)


async def answer_request(handler: Handler, request: Request, source: request_context.RequestContext | None) -> Reply:
    """The reply to one request; `source` is the client's request that caused it."""
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
    """Log the exception that is being handled, a defect of ours; the reply does not have its traceback."""
    log.exception("a handler broke")  # noqa: LOG004 (its callers handle an exception)
    return Failure(code=Code.FAILED, reason="internal error")
