"""Refuses a request at once, before it is parsed, when too many wait: what that costs is missing elsewhere. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from common import origin
from facade.api import problem

MANY_REQUESTS = "too many requests wait already, nothing was done"
MANY_CONNECTIONS = "too many connections are open already, nothing was done"
QUICK = ("/livez", "/v1/limits", "/v1/history", "/metrics", "/readyz", "/v1/cluster")  # how it is, told under any load
LARGEST_BYTES = 8_192  # of a request that is looked at here

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,4})[ \t]*(?=\r\n|\Z)", re.IGNORECASE)
_UNUSUAL = re.compile(  # what changes where the request ends, or that may; a name before a blank is none
    rb"\r\n(?:transfer-encoding|expect:|connection(?!:[ \t]*keep-alive[ \t]*(?:\r|\Z))|upgrade:)"
    rb"|\r\n[ \t]|\r\n[^:\r]*[ \t]:|(?<!\r)\n|\r(?!\n)",
    re.IGNORECASE,
)
_HOST = re.compile(rb"\r\nhost:", re.IGNORECASE)
_FIRST = re.compile(rb"(?:GET|POST) (/[!-~]*) HTTP/1\.1\r\n")
_NAMES = re.compile(rb"\r\n(x-request-id|traceparent):[ \t]*([!-~]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused, in the form of waitress' own errors."""

    code: int
    body: str = ""

    @property
    def reason(self) -> str:
        """As the first line of the answer has it."""
        return HTTPStatus(self.code).phrase


def is_whole(data: bytes, spared: Sequence[str]) -> bool:
    """Whether the bytes are exactly one request of the usual kind, for none of the paths that are spared.

    What is unusual in any way is left to the parser: it may be two requests, or a part of one.
    """
    head, end, body = data.partition(b"\r\n\r\n")
    first = _FIRST.match(head)
    if not end or len(data) > LARGEST_BYTES or first is None or _UNUSUAL.search(head):
        return False
    if first.group(1).partition(b"?")[0].decode() in spared:
        return False
    if len(_HOST.findall(head)) != 1:
        return False
    lengths = _LENGTH.findall(head)
    if len(lengths) > 1 or len(lengths) != head.lower().count(b"content-length"):  # one that is not read here
        return False
    return len(body) == int(lengths[0] if lengths else 0)


def answer(data: bytes, message: str) -> bytes:
    """The whole answer to such a request, after which the connection goes on."""
    named = {name.lower(): value.decode() for name, value in _NAMES.findall(data.partition(b"\r\n\r\n")[0])}
    source = origin.received(named.get(b"x-request-id"), named.get(b"traceparent"))
    with origin.of(source):
        body = problem.body(503, message)
    headers = [("Content-Length", str(len(body))), ("X-Request-ID", source.request_id)]
    lines = "".join(f"{name}: {value}\r\n" for name, value in (*headers, *problem.headers(503), *problem.SECURITY))
    return f"HTTP/1.1 503 Service Unavailable\r\n{lines}\r\n".encode() + body
