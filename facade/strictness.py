"""What servers and proxies read in different ways: with it one request can be hidden in another. Pure."""

import re
from collections.abc import Sequence
from http import HTTPStatus

from common.config import Limits

_ONCE = (b"host", b"content-length", b"transfer-encoding")  # headers of which a second one may mean another request
_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")  # a line that does not end with both


def has_bare_ends(head: bytes) -> bool:
    """Whether a line in the begin of a request ends with CR or LF alone."""
    return _BARE.search(head) is not None


def ambiguity(first_line: bytes, lines: Sequence[bytes]) -> str | None:
    """What is not clear about a request, from its first line and the lines of its headers; None when all is."""
    if any(line[:1] in (b" ", b"\t") for line in lines):
        return "a header goes on in a second line"
    names = [line.partition(b":")[0].lower() for line in lines]
    if doubled := [name.decode("latin-1") for name in _ONCE if names.count(name) > 1]:
        return f"{doubled[0]} is given more than once"
    if b"content-length" in names and b"transfer-encoding" in names:
        return "content-length and transfer-encoding exclude each other"
    if first_line.endswith(b" HTTP/1.1") and b"host" not in names:
        return "HTTP/1.1 needs a host header"
    return None


def reason(status: int, found: str, limits: Limits) -> str:
    """A sentence for a client whose request is refused before it is read: what was found, or which limit it is over."""
    match status:
        case HTTPStatus.SERVICE_UNAVAILABLE:
            return found
        case HTTPStatus.REQUEST_URI_TOO_LONG:
            return f"the URL is over the limit of {limits.url_bytes} bytes"
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return f"the body is over the limit of {limits.batch_bytes} bytes"
        case HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            return f"the headers are over the limit of {limits.header_bytes} bytes"
        case _:
            return f"this is not valid HTTP: {found}"
