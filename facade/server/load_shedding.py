"""Load shedding: the paths that are always answered, and a cheap 503 response for other requests under overload."""

import functools
from collections.abc import Mapping

from common.telemetry import request_context
from common.telemetry.request_context import RequestContext
from facade.api import problem

TOO_MANY_REQUESTS = "too many requests wait already, nothing was done"
TOO_MANY_CONNECTIONS = "too many connections are open already, nothing was done"
# Health and status requests are answered under any load.
EXEMPT_PATHS = ("/livez", "/v1/limits", "/v1/history", "/metrics", "/readyz", "/v1/cluster")
_PLACEHOLDERS = RequestContext("the request id", "the traceparent")  # stand for the real values in a template


def refusal(headers: Mapping[str, str], message: str) -> bytes:
    """A complete 503 response that keeps the connection, for a request with these headers (named as in Parser)."""
    context = request_context.from_headers(headers.get("X_REQUEST_ID"), headers.get("TRACEPARENT"))
    head, body = _template(message)
    for placeholder, value in zip(_PLACEHOLDERS, context, strict=True):
        body = body.replace(placeholder, value)
    return f"{head}Content-Length: {len(body)}\r\nX-Request-ID: {context.request_id}\r\n\r\n{body}".encode()


@functools.cache
def _template(message: str) -> tuple[str, str]:
    """The head and the body that all refusals with one ASCII message share, with placeholders for the context."""
    with request_context.use(_PLACEHOLDERS):
        body = problem.body(503, message).decode("ascii")
    lines = "".join(f"{name}: {value}\r\n" for name, value in (*problem.headers(503), *problem.SECURITY))
    return f"HTTP/1.1 503 Service Unavailable\r\n{lines}", body
