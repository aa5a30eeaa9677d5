"""Refuses requests at the least cost when too many wait: what a refusal costs is missing elsewhere."""

import functools
from collections.abc import Mapping

from common import origin
from common.origin import Origin
from facade.api import problem

MANY_REQUESTS = "too many requests wait already, nothing was done"
MANY_CONNECTIONS = "too many connections are open already, nothing was done"
QUICK = ("/livez", "/v1/limits", "/v1/history", "/metrics", "/readyz", "/v1/cluster")  # how it is, told under any load


_NAMES = Origin("the request id", "the traceparent")  # the places of both in a template


def answer(headers: Mapping[str, str], message: str) -> bytes:
    """The whole answer to a request with these headers (as Parser has them), after which the connection goes on."""
    source = origin.received(headers.get("X_REQUEST_ID"), headers.get("TRACEPARENT"))
    head, body = _template(message)
    body = body.replace(_NAMES.request_id, source.request_id).replace(_NAMES.traceparent, source.traceparent)
    return f"{head}Content-Length: {len(body)}\r\nX-Request-ID: {source.request_id}\r\n\r\n{body}".encode()


@functools.cache
def _template(message: str) -> tuple[str, str]:
    """What is the same in all answers; a message is ASCII."""
    with origin.of(_NAMES):
        body = problem.body(503, message).decode("ascii")
    lines = "".join(f"{name}: {value}\r\n" for name, value in (*problem.headers(503), *problem.SECURITY))
    return f"HTTP/1.1 503 Service Unavailable\r\n{lines}", body
