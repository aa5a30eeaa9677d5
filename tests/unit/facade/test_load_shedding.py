"""Tests of facade.server.load_shedding: what may be refused unread, and that the parser would have read the same."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waitress.adjustments import Adjustments

from facade.api import problem
from facade.server import load_shedding
from facade.server.load_shedding import QUICK
from facade.server.parser import Parser

POST = b'POST /facade HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{"msg": "a"}'
GET = b"GET /v1/messages?limit=3 HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "whole",
    [
        *(POST, GET, POST.replace(b"Content-Length: 12", b"content-length:12 ")),
        *(one.replace(b"Host: x", b"Host: x\r\nConnection: keep-alive") for one in (POST, GET)),
        GET.replace(b"Host: x", b"connection:Keep-Alive \r\nUpgrade-Insecure-Requests: 1\r\nHost: x"),
    ],
)
def test_a_whole_request_may_be_refused_unread(whole: bytes) -> None:
    """With a body or without."""
    assert load_shedding.is_whole(whole, QUICK)


@pytest.mark.parametrize(
    "other",
    [
        b"",
        POST[:-1],
        POST + b"x",
        POST + GET,
        GET + GET,
        GET[:-2],
        POST.replace(b"12", b"1"),
        POST.replace(b"12", b"+12"),
        *(
            POST.partition(b'{"')[0].replace(b"12", length)
            for length in (b"1000000", b"0x50", b"+80", b"12 12", b"12,12")
        ),
        POST.partition(b'{"')[0].replace(b"Length: 12", b"Length : 12"),
        POST.partition(b'{"')[0].replace(b"Length: 12", b"Length:\r\n 12"),
        POST.partition(b'{"')[0].replace(b"Content-Length", b"X\rContent-Length"),
        POST.replace(b"Host: x", b"Content-Length: 12"),
        POST.replace(b"Host: x\r\n", b""),
        POST.replace(b"Host: x", b"Host: x\r\nHOST: y"),
        POST.replace(b"Host: x", b"Transfer-Encoding: chunked"),
        POST.replace(b"Host: x", b"transfer-encoding : chunked"),
        POST.replace(b"Host: x", b"Expect: 100-continue"),
        *(
            POST.replace(b"Host: x", b"Host: x\r\n" + line)
            for line in (
                *(b"Connection: close", b"Connection: keep-alive, close", b"Connection: keep-alive\r\nConnection: x"),
                *(
                    b"Connection: Upgrade, HTTP2-Settings",
                    b"Connection-X: y",
                    b"Upgrade: h2c",
                    b"Connection: \r\n close",
                ),
            )
        ),
        POST.replace(b"Host: x", b"Host: x\r\n folded"),
        POST.replace(b"Host: x\r\n", b"Host: x\n"),
        POST.replace(b"HTTP/1.1", b"HTTP/1.0"),
        POST.replace(b"POST", b"PUT"),
        GET.replace(b"/v1/messages?limit=3", b"/livez"),
        GET.replace(b"/v1/messages?limit=3", b"/readyz?verbose"),
        GET.replace(b"/v1/messages?limit=3", b"http://x/livez"),
        GET.replace(b"Host: x", b"X: " + b"x" * load_shedding.LARGEST_BYTES),
    ],
)
def test_what_is_unusual_is_left_to_the_parser(other: bytes) -> None:
    """Parts, more than one request, two lengths, other codings, other methods, and health."""
    assert not load_shedding.is_whole(other, QUICK)


_LINES = (
    b"Content-Length: 3000000",
    b"Content-Length : 3",
    b"content-length:3",
    b"Content-Length: 0x3",
    b"Host: x",
    b"Content-Length: 0",
    b"X: y",
    b"Expect: x",
    b" z",
    b"A:",
    b"",
)


@given(st.lists(st.sampled_from(_LINES), max_size=5), st.binary(max_size=5), st.sampled_from([b"\r\n", b"\n"]))
def test_the_parser_reads_the_same(lines: list[bytes], body: bytes, end: bytes) -> None:
    """Whatever is refused unread, the parser would have taken for exactly one request, too."""
    sent = b"POST /facade HTTP/1.1\r\n" + end.join(lines) + b"\r\n\r\n" + body
    if load_shedding.is_whole(sent, QUICK):
        parser = Parser(Adjustments())
        taken = 0
        while taken < len(sent) and not parser.completed:
            taken += parser.received(sent[taken:])

        assert parser.error or (taken, parser.completed) == (len(sent), True)


def test_the_answer_is_whole() -> None:
    """Its length is right, it says when to come again, its connection goes on, and it has the name that was given."""
    head, _, body = load_shedding.answer(GET.replace(b"Host", b"x-request-id: mine\r\nHost"), "too many").partition(
        b"\r\n\r\n"
    )
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])

    assert (len(body), "1", problem.MEDIA_TYPE) == (
        int(headers["Content-Length"]),
        headers["Retry-After"],
        headers["Content-Type"],
    )
    assert ("too many", "mine") == (json.loads(body)["message"], json.loads(body)["request_id"])
    assert "mine" == headers["X-Request-ID"]
    assert "Connection" not in headers
