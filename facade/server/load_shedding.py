"""Refuses requests at the least cost when too many wait: what a refusal costs is missing elsewhere."""

from collections.abc import Mapping

from common import origin
from facade.api import problem

MANY_REQUESTS = "too many requests wait already, nothing was done"
MANY_CONNECTIONS = "too many connections are open already, nothing was done"
QUICK = ("/livez", "/v1/limits", "/v1/history", "/metrics", "/readyz", "/v1/cluster")  # how it is, told under any load


def answer(headers: Mapping[str, str], message: str) -> bytes:
    """The whole answer to a request with these headers (as Parser has them), after which the connection goes on."""
    source = origin.received(headers.get("X_REQUEST_ID"), headers.get("TRACEPARENT"))
    with origin.of(source):
        body = problem.body(503, message)
    told = [("Content-Length", str(len(body))), ("X-Request-ID", source.request_id)]
    lines = "".join(f"{name}: {value}\r\n" for name, value in (*told, *problem.headers(503), *problem.SECURITY))
    return f"HTTP/1.1 503 Service Unavailable\r\n{lines}\r\n".encode() + body
