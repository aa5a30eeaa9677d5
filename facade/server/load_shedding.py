"""Load shedding: decides which requests start, wait or are refused, and makes a cheap 503 response for the refused."""

import enum
import functools
from collections.abc import Mapping

from common.errors import OverloadError
from common.telemetry import request_context
from common.telemetry.request_context import RequestContext
from facade.api import problem

TOO_MANY_REQUESTS = "too many requests wait already, nothing was done"
TOO_MANY_CONNECTIONS = "too many connections are open already, nothing was done"
# Health and status requests are answered under any load.
EXEMPT_PATHS = ("/livez", "/v1/limits", "/v1/history", "/metrics", "/readyz", "/v1/cluster")


class Admission(enum.Enum):
    """What happens to a request that has arrived."""

    AT_ONCE = "at once"  # it starts, and does not count as a running request
    RUN = "run"  # it starts, and counts
    WAIT = "wait"  # it waits until a running request has ended
    REFUSE = "refuse"  # it gets a 503 response
    CLOSE = "close"  # the connection is closed, because the client would not read a refusal


def decide(*, exempt: bool, unread: bool, spare: bool, free: int, waiting: int, queued: int) -> Admission:
    """Decide about a request. A function of its arguments only.

    Args:
        exempt: the path is one of EXEMPT_PATHS, or the response is an error that is known already.
        unread: the client does not read its responses: a further one would fill its buffer.
        spare: the connection is above the limit on connections.
        free: how many more requests may run.
        waiting: the number of requests that wait.
        queued: limit of `waiting`.
    """
    if exempt and not unread:
        return Admission.AT_ONCE
    if spare or waiting >= queued:
        return Admission.CLOSE if unread else Admission.REFUSE
    return Admission.RUN if free else Admission.WAIT


_PLACEHOLDERS = RequestContext("the request id", "the traceparent")  # stand for the real values in a template


def refusal(path: str, headers: Mapping[str, str], message: str) -> bytes:
    """A complete 503 response that keeps the connection, for a request with these headers (named as in Parser)."""
    context = request_context.from_headers(headers.get("X_REQUEST_ID"), headers.get("TRACEPARENT"))
    head, body = _template(message, legacy=path == problem.LEGACY_PATH)
    for name, placeholder in _PLACEHOLDERS.fields().items():
        body = body.replace(placeholder, context.fields()[name])
    return f"{head}Content-Length: {len(body)}\r\nX-Request-ID: {context.request_id}\r\n\r\n{body}".encode()


@functools.cache
def _template(message: str, *, legacy: bool) -> tuple[str, str]:
    """The head and the body that all refusals with one ASCII message share, with placeholders for the context."""
    with request_context.use(_PLACEHOLDERS):
        kind = problem.type_of(OverloadError(message))
        body = problem.body(503, message, path=problem.LEGACY_PATH if legacy else "", kind=kind).decode("ascii")
    lines = "".join(f"{name}: {value}\r\n" for name, value in (*problem.headers(503), *problem.SECURITY))
    return f"HTTP/1.1 503 Service Unavailable\r\n{lines}", body
