"""Which requests are rejected before they reach the application, why, and what their clients are told. No I/O.

llhttp accepts some requests that other servers and proxies read in another way: with them one request can hide another.
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
        body: details, if the status does not say it all.
    """

    code: int
    body: str = ""

    @property
    def reason(self) -> str:
        """The reason phrase of the status line."""
        return HTTPStatus(self.code).phrase


def rejection_message(status: int, details: str, limits: Limits) -> str:
    """The sentence for the client: what is wrong, or which limit the request exceeds."""
    match status:
        case HTTPStatus.SERVICE_UNAVAILABLE:
            return details
        case HTTPStatus.REQUEST_URI_TOO_LONG:
            return f"the URL is over the limit of {limits.url_bytes} bytes"
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return f"the body is over the limit of {limits.batch_bytes} bytes"
        case HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            return f"the headers are over the limit of {limits.header_bytes} bytes"
        case _:
            return f"this is not valid HTTP: {details}"


def ambiguity(request_line: bytes, headers: Mapping[str, str], hosts: int) -> str | None:
    """What is ambiguous about a request; None if nothing is.

    Args:
        request_line: the first line, without its end.
        headers: by name, as Parser has them.
        hosts: how often the header Host was given.
    """
    return next(_ambiguities(request_line, headers, hosts), None)


def _ambiguities(request_line: bytes, headers: Mapping[str, str], hosts: int) -> Iterator[str]:
    if not _REQUEST_LINE.fullmatch(request_line):  # llhttp accepts more blanks, RTSP and ICE, HTTP/0.9 and 2.0
        yield "the first line must be METHOD URL HTTP/1.1 or HTTP/1.0, in visible ASCII with one blank between"
    if request_line.startswith(b"CONNECT "):  # what follows is no body for some servers, and a body for others
        yield "CONNECT is for proxies"
    if hosts > 1:  # llhttp does not count them
        yield "host is given more than once"
    if not hosts and request_line.endswith(b"1.1"):
        yield "HTTP/1.1 needs a host header"
    if (coding := headers.get("TRANSFER_ENCODING")) is None:
        return
    if request_line.endswith(b"1.0"):  # llhttp reads chunks there; a proxy of HTTP/1.0 does not know them
        yield "HTTP/1.0 has no transfer-encoding"
    if coding.lower() != "chunked":  # llhttp accepts "gzip, chunked", and this server does not decompress
        yield f"transfer-encoding may only be chunked, not {coding[:40]!r}"
    if "UPGRADE" in headers:  # llhttp ends such a request before its body
        yield "a request for an upgrade may not have a body in chunks"
