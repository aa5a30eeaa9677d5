"""Refuses a request at once, before it is parsed, when too many wait: what that costs is missing elsewhere. Pure."""

import re
from collections.abc import Sequence

from facade import problem

LARGEST_BYTES = 8_192  # of a request that is looked at so

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,6})[ \t]*(?=\r\n|\Z)", re.IGNORECASE)
_UNUSUAL = re.compile(rb"\r\n(?:transfer-encoding|expect|connection|upgrade)[ \t]*:|\r\n[ \t]|(?<!\r)\n", re.IGNORECASE)
_FIRST = re.compile(rb"(?:GET|POST) (/[!-~]*) HTTP/1\.1\r\n")


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
    lengths = _LENGTH.findall(head)
    return len(lengths) <= 1 and len(body) == int(lengths[0] if lengths else 0)


def answer(message: str) -> bytes:
    """The whole answer, after which the connection goes on."""
    body = problem.body(503, message)
    headers = [*problem.headers(503), *problem.SECURITY, ("Content-Length", str(len(body)))]
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 503 Service Unavailable\r\n{lines}\r\n".encode() + body
