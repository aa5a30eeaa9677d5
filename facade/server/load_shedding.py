"""Cheap refusals under overload: a refusal takes CPU time from the requests that were accepted."""

import functools
from collections.abc import Mapping

from common import origin
from common.origin import Origin
from facade.api import problem

MANY_REQUESTS = "too many requests wait already, nothing was done"
MANY_CONNECTIONS = "too many connections are open already, nothing was done"
QUICK = ("/livez", "/v1/limits", "/v1/history", "/metrics", "/readyz", "/v1/cluster")  # how it is, told under any load
_PLACES = Origin("the request id", "the traceparent")  # placeholders in a template


def answer(headers: Mapping[str, str], message: str) -> bytes:
    """A whole 503 that keeps the connection, for a request with these headers (as Parser has them)."""
    source = origin.received(headers.get("X_REQUEST_ID"), headers.get("TRACEPARENT"))
    head, body = _template(message)
    body = body.replace(_PLACES.request_id, source.request_id).replace(_PLACES.traceparent, source.traceparent)
    return f"{head}Content-Length: {len(body)}\r\nX-Request-ID: {source.request_id}\r\n\r\n{body}".encode()


@functools.cache
def _template(message: str) -> tuple[str, str]:
    """The head and the body that all answers with an ASCII message share, with placeholders in the body."""
    with origin.of(_PLACES):
        body = problem.body(503, message).decode("ascii")
    lines = "".join(f"{name}: {value}\r\n" for name, value in (*problem.headers(503), *problem.SECURITY))
    return f"HTTP/1.1 503 Service Unavailable\r\n{lines}", body
