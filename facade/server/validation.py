"""What llhttp takes, and other servers and proxies read in another way: with it one request can hide another. Pure."""

import re
from collections.abc import Iterator, Mapping

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_FIRST = re.compile(_TOKEN + rb" [!-~]+ HTTP/1\.[01]")


def ambiguity(first_line: bytes, headers: Mapping[str, str], hosts: int) -> str | None:
    """What is not clear about a request; None when all is.

    `headers` by name as Parser has them, with so many `hosts` among them.
    """
    return next(_found(first_line, headers, hosts), None)


def _found(first_line: bytes, headers: Mapping[str, str], hosts: int) -> Iterator[str]:
    if not _FIRST.fullmatch(first_line):  # llhttp takes more blanks, RTSP and ICE, and HTTP/0.9 and 2.0
        yield "the first line must be METHOD URL HTTP/1.1 or HTTP/1.0, in visible ASCII with one blank between"
    if first_line.startswith(b"CONNECT "):  # what follows is no body for some, and a body for others
        yield "CONNECT is for proxies"
    if hosts > 1:  # llhttp does not count them
        yield "host is given more than once"
    if not hosts and first_line.endswith(b"1.1"):
        yield "HTTP/1.1 needs a host header"
    if (coding := headers.get("TRANSFER_ENCODING")) is None:
        return
    if first_line.endswith(b"1.0"):  # llhttp reads chunks there; a proxy of HTTP/1.0 does not know them
        yield "HTTP/1.0 has no transfer-encoding"
    if coding.lower() != "chunked":  # llhttp takes "gzip, chunked", and nobody here undoes the gzip
        yield f"transfer-encoding may only be chunked, not {coding[:40]!r}"
    if "UPGRADE" in headers:  # llhttp ends such a request before its body
        yield "a request for an upgrade may not have a body in chunks"
