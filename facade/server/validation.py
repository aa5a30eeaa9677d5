"""What servers and proxies read in different ways: with it one request can be hidden in another. Pure."""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from common.config import Limits

CHUNK_LINE_BYTES = 256  # before each chunk: its size, and extensions that nobody uses
_ONCE = (b"host", b"content-length", b"transfer-encoding")  # headers of which a second one may mean another request
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# waitress would take any other version, or none, for 1.0, in which it does not look for chunks.
_FIRST = re.compile(_TOKEN + rb" [!-~]+ HTTP/1\.[01]")
_CHUNK = re.compile(rb"[0-9A-Fa-f]{1,16}(;[\t -~\x80-\xff]*)?\r\n")
_TRAILER = re.compile(rb"(" + _TOKEN + rb":[\t -~\x80-\xff]*)?\r\n")
_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")  # a line that does not end with both


def unclear_begin(head: bytes, seen: int) -> str | None:
    """What is not clear about the begin of a request, as far as it has come; so many bytes were looked at before.

    Blank lines may be before it.
    """
    if head.lstrip(b"\r\n")[:1].isspace():
        return "the first line begins with a blank"
    return "a line of the headers does not end with CR LF" if _BARE.search(head, seen) else None


def ambiguity(first_line: bytes, lines: Sequence[bytes]) -> str | None:
    """What is not clear about a request, from its first line and the lines of its headers; None when all is."""
    if not _FIRST.fullmatch(first_line):
        return "the first line must be METHOD URL HTTP/1.1 or HTTP/1.0, in visible ASCII with one blank between"
    if any(line[:1] in (b" ", b"\t") for line in lines):
        return "a header goes on in a second line"
    headers = [
        (name.lower(), value.strip(b" \t").lower()) for name, _, value in (line.partition(b":") for line in lines)
    ]
    names = [name for name, _ in headers]
    if doubled := [name.decode("latin-1") for name in _ONCE if names.count(name) > 1]:
        return f"{doubled[0]} is given more than once"
    if first_line.endswith(b" HTTP/1.1") and b"host" not in names:
        return "HTTP/1.1 needs a host header"
    return _coding(first_line, dict(headers)) if b"transfer-encoding" in names else None


def _coding(first_line: bytes, headers: Mapping[bytes, bytes]) -> str | None:
    """What is not clear about a body that comes in chunks."""
    if b"content-length" in headers:
        return "content-length and transfer-encoding exclude each other"
    if first_line.endswith(b" HTTP/1.0"):
        return "HTTP/1.0 has no transfer-encoding"
    if (coding := headers[b"transfer-encoding"]) != b"chunked":  # also "chunked, chunked"
        return f"transfer-encoding may only be chunked, not {coding[:40].decode('latin-1')!r}"
    return None


def wrong_chunk_line(line: bytes) -> str | None:
    """What is wrong with the line before a chunk, as far as it has come."""
    if len(line) > CHUNK_LINE_BYTES:
        return f"the line before a chunk is over the limit of {CHUNK_LINE_BYTES} bytes"
    if line.endswith(b"\n") and not _CHUNK.fullmatch(line):
        return "a chunk does not begin with a line of its size"
    return None


def wrong_trailer(line: bytes) -> str | None:
    """What is wrong with a line after the last chunk, as far as it has come."""
    if line.endswith(b"\n") and not _TRAILER.fullmatch(line):
        return "what follows the last chunk is neither a header nor the end"
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
