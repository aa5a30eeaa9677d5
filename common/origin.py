"""Where a request comes from: its id and its trace, which stand in every line that any process logs for it."""

import contextlib
import random
import re
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Annotated, NamedTuple

from msgspec import Meta

REQUEST_ID_CHARACTERS = 128
# What a header can carry, and a line or a URL without quoting.
REQUEST_ID = rf"[A-Za-z0-9._:/+=@~-]{{1,{REQUEST_ID_CHARACTERS}}}"
TRACEPARENT = "00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"  # W3C Trace Context, level 1: trace, span, flags

_ZEROS = re.compile("00-(0{32}|[0-9a-f]{32}-0{16})")  # ids of zeros mean: not valid


class Origin(NamedTuple):
    """Of one request of a client: what it is called, and the trace and the span that it belongs to."""

    request_id: Annotated[str, Meta(pattern=rf"^{REQUEST_ID}\Z")]
    traceparent: Annotated[str, Meta(pattern=rf"^{TRACEPARENT}\Z")]


_current: ContextVar[Origin | None] = ContextVar("origin", default=None)


def current() -> Origin | None:
    """That of the request which this thread, task or greenlet works on; None when it works on none."""
    return _current.get()


@contextlib.contextmanager
def of(origin: Origin | None) -> Iterator[None]:
    """The block, and the tasks that it starts, work on that request."""
    token = _current.set(origin)
    try:
        yield
    finally:
        _current.reset(token)


def begin(origin: Origin | None) -> None:
    """From now on this thread or greenlet works on that request, until the next one begins."""
    _current.set(origin)


def received(request_id: str | None, traceparent: str | None) -> Origin:
    """What two headers say; what is missing or not valid is made.

    The trace goes on with a span of ours. A request without an id of its own is called as its trace.
    """
    valid = traceparent is not None and re.fullmatch(TRACEPARENT, traceparent) and not _ZEROS.match(traceparent)
    made = f"{random.getrandbits(192):048x}"  # nobody has to guess it; os.urandom takes 3 us
    trace, flags = (traceparent[3:35], traceparent[-2:]) if valid and traceparent else (made[:32], "00")
    named = request_id is not None and re.fullmatch(REQUEST_ID, request_id)
    return Origin(request_id if named and request_id else trace, f"00-{trace}-{made[32:]}-{flags}")
