"""Tests of facade.server.validation: which requests are ambiguous, and the message for the client."""

import pytest

from common.config import Limits
from facade.server.validation import Rejection, ambiguity, rejection_message


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"POST /v1/messages?x=1 HTTP/1.1", b"M-SEARCH * HTTP/1.1"])
def test_a_plain_request_is_not_ambiguous(line: bytes) -> None:
    """A request with a valid first line and one Host header is accepted."""
    assert ambiguity(line, {"HOST": "x"}, 1) is None


@pytest.mark.parametrize(
    ("line", "headers", "hosts", "reason"),
    [
        (b"GET  / HTTP/1.1", {}, 1, "the first line must be METHOD URL"),
        (b"GET / HTTP/2.0", {}, 1, "the first line must be METHOD URL"),
        (b"GET /\xe9 HTTP/1.1", {}, 1, "the first line must be METHOD URL"),
        (b"CONNECT x:1 HTTP/1.1", {}, 1, "CONNECT is for proxies"),
        (b"GET / HTTP/1.1", {}, 2, "host is given more than once"),
        (b"GET / HTTP/1.1", {}, 0, "HTTP/1.1 needs a host header"),
        (b"POST / HTTP/1.0", {"TRANSFER_ENCODING": "chunked"}, 0, "HTTP/1.0 has no transfer-encoding"),
        (b"POST / HTTP/1.1", {"TRANSFER_ENCODING": "gzip, chunked"}, 1, "transfer-encoding may only be chunked"),
        (b"POST / HTTP/1.1", {"TRANSFER_ENCODING": "chunked", "UPGRADE": "x"}, 1, "a request for an upgrade"),
    ],
)
def test_what_other_servers_read_differently_is_rejected(
    line: bytes, headers: dict[str, str], hosts: int, reason: str
) -> None:
    """The reason of the first rule that the request breaks is returned."""
    assert str(ambiguity(line, headers, hosts)).startswith(reason)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "this is not valid HTTP: details"),
        (413, "the body is over the limit of 12 bytes"),
        (414, "the URL is over the limit of 10 bytes"),
        (431, "the headers are over the limit of 11 bytes"),
        (503, "details"),
    ],
)
def test_a_message_names_the_limit(status: int, message: str) -> None:
    """Statuses without a limit have the details of the error."""
    limits = Limits(url_bytes=10, header_bytes=11, batch_bytes=12)

    assert message == rejection_message(status, "details", limits)


def test_a_rejection_has_the_reason_phrase_of_its_status() -> None:
    """The status line of the response has it."""
    assert "Request Header Fields Too Large" == Rejection(431).reason
