"""Rejects ambiguous requests before they reach the application, and words the error messages. No I/O.

llhttp accepts some requests that other servers and proxies interpret differently, which enables request smuggling.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from common.config import Limits

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(_TOKEN + rb" [!-~]+ HTTP/1\.[01]")


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a request is rejected, with the attributes of waitress' own errors.

    Attributes:
        code: the HTTP status.
        body: details in addition to the status; "" for none.
    """

    code: int
    body: str = ""

    @property
    def reason(self) -> str:
        """The reason phrase of the status line."""
        return HTTPStatus(self.code).phrase


def rejection_message(status: int, details: str, limits: Limits) -> str:
    """The error message for the client: what is wrong, or which limit the request exceeds."""
    match status:
        case HTTPStatus.SERVICE_UNAVAILABLE:
            return details
        case HTTPStatus.REQUEST_TIMEOUT:
            return (
                f"the request was not complete in time: its head may take {limits.receive_s:g} s, and its body must "
                f"arrive at {limits.body_bytes_per_s} bytes a second at least"
            )
        case HTTPStatus.REQUEST_URI_TOO_LONG:
            return f"the URL is over the limit of {limits.url_bytes} bytes"
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return f"the body is over the limit of {limits.batch_bytes} bytes"
        case HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            return f"the headers are over the limit of {limits.header_bytes} bytes"
        case _:
            return f"this is not valid HTTP: {details}"


def ambiguity(request_line: bytes, headers: Mapping[str, str], hosts: int) -> str | None:
    """The first ambiguity of a request; None if there is none.

    Args:
        request_line: the first line, without its line end.
        headers: headers by name, as in `Parser.headers`.
        hosts: number of Host headers.
    """
    return next(_ambiguities(request_line, headers, hosts), None)


def _ambiguities(request_line: bytes, headers: Mapping[str, str], hosts: int) -> Iterator[str]:
    if not _REQUEST_LINE.fullmatch(request_line):  # llhttp also accepts more blanks, RTSP, ICE, HTTP/0.9 and 2.0
        yield "the first line must be METHOD URL HTTP/1.1 or HTTP/1.0, in visible ASCII with one blank between"
    if request_line.startswith(b"CONNECT "):  # servers disagree whether it has a body
        yield "CONNECT is for proxies"
    if hosts > 1:  # llhttp accepts several
        yield "host is given more than once"
    if not hosts and request_line.endswith(b"1.1"):
        yield "HTTP/1.1 needs a host header"
    if (coding := headers.get("TRANSFER_ENCODING")) is None:
        return
    if request_line.endswith(b"1.0"):  # llhttp accepts chunks here, which an HTTP/1.0 proxy does not know
        yield "HTTP/1.0 has no transfer-encoding"
    if coding.lower() != "chunked":  # llhttp accepts "gzip, chunked"; this server does not decompress
        yield f"transfer-encoding may only be chunked, not {coding[:40]!r}"
    if "UPGRADE" in headers:  # llhttp ends such a request before its body
        yield "a request for an upgrade may not have a body in chunks"
