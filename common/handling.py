"""How a request is answered, whatever is in its frame and whatever the handler does."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import structlog

from common import codec, origin, spans
from common.codec import Reply, Request
from common.errors import InvalidMessageError, ThreefoldError
from common.wire import Code, Failure, failure

log = structlog.get_logger()

Handler = Callable[[Request], Awaitable[Reply]]


class Direct(NamedTuple):
    """Answers requests of some kinds without a task: `take` is called with each, and calls back once with its reply."""

    kinds: tuple[type[Request], ...]
    take: Callable[[Request, Callable[[Reply], None]], None]


NO_DIRECT = Direct((), lambda _request, _reply: None)


class Heard(NamedTuple):
    """What came: from where, what, and, where there are keys, from whom ("" for somebody who is known no more)."""

    envelope: list[bytes]
    body: list[bytes]
    caller: str | None


async def answer(handler: Handler, frame: bytes) -> Reply:
    """The reply to one frame."""
    try:
        request, source = codec.decode_request(frame)
    except InvalidMessageError as error:
        return failure(Code.INVALID, str(error))
    return await answer_request(handler, request, source)


async def answer_request(handler: Handler, request: Request, source: origin.Origin | None) -> Reply:
    """The reply to one request, which belongs to that of a client."""
    with origin.of(source), spans.served(type(request).__name__):
        return await _answer(handler, request)


async def _answer(handler: Handler, request: Request) -> Reply:
    try:
        return await handler(request)
    except InvalidMessageError as error:
        return failure(Code.INVALID, str(error))
    except ThreefoldError as error:
        return failure(Code.FAILED, str(error))
    except Exception:
        log.exception("a handler broke")  # a defect of ours: the log has the traceback, the peer does not
        return Failure(code=Code.FAILED, reason="internal error")
