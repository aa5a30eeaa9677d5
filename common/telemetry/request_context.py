"""The request context: the id and the trace of a client request, which every process adds to its log lines."""

import contextlib
import random
import re
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Annotated, NamedTuple

from msgspec import Meta

REQUEST_ID_CHARACTERS = 128
# Characters that a header, a log line and a URL can carry without quoting.
REQUEST_ID = rf"[A-Za-z0-9._:/+=@~-]{{1,{REQUEST_ID_CHARACTERS}}}"
TRACEPARENT = "00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"  # W3C Trace Context, level 1: trace, span, flags
TRACESTATE = "[\x20-\x7e]{0,512}"  # W3C Trace Context: at least 512 characters are passed on; longer ones are dropped

_ZEROS = re.compile("00-(0{32}|[0-9a-f]{32}-0{16})")  # ids that are all zeros are not valid


class RequestContext(NamedTuple):
    """The id of a client request, its trace and span as a W3C traceparent, and what tracing systems add to them."""

    request_id: Annotated[str, Meta(pattern=rf"^{REQUEST_ID}\Z")]
    traceparent: Annotated[str, Meta(pattern=rf"^{TRACEPARENT}\Z")]
    tracestate: Annotated[str, Meta(pattern=rf"^{TRACESTATE}\Z")] = ""

    def fields(self) -> dict[str, str]:
        """The fields of log lines and problem documents."""
        return {"request_id": self.request_id, "traceparent": self.traceparent}


_current: ContextVar[RequestContext | None] = ContextVar("request_context", default=None)


def current() -> RequestContext | None:
    """The request context of this thread, task or greenlet; None outside of a request."""
    return _current.get()


@contextlib.contextmanager
def use(context: RequestContext | None) -> Iterator[None]:
    """Make `context` current within the block, and for the tasks that the block starts."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


def set_current(context: RequestContext | None) -> None:
    """Make `context` current for this thread or greenlet, until the next call."""
    _current.set(context)


def from_headers(
    request_id: str | None,
    traceparent: str | None,
    tracestate: str | None = None,
    *,
    draw: Callable[[int], int] = random.getrandbits,
) -> RequestContext:
    """The request context in the headers X-Request-ID, traceparent and tracestate; invalid parts are replaced.

    A valid trace continues with a new span. A request without a valid id gets the id of its trace.
    `draw` returns that many random bits.
    """
    valid = traceparent is not None and re.fullmatch(TRACEPARENT, traceparent) and not _ZEROS.match(traceparent)
    generated = f"{draw(192):048x}"  # need not be secret, and os.urandom takes 3 us
    trace, flags = (traceparent[3:35], traceparent[-2:]) if valid and traceparent else (generated[:32], "00")
    has_id = request_id is not None and re.fullmatch(REQUEST_ID, request_id)
    state = tracestate if valid and tracestate and re.fullmatch(TRACESTATE, tracestate) else ""
    return RequestContext(request_id if has_id and request_id else trace, f"00-{trace}-{generated[32:]}-{flags}", state)
