"""Tests of facade.server.parser: requests that are rejected, and where a request ends."""

import httptools
import pytest
from waitress.adjustments import Adjustments

from facade.server.parser import DEFAULT, Parser
from facade.server.validation import Rejection, rejection_message

LIMITS = Adjustments(max_request_header_size=DEFAULT.header_bytes, max_request_body_size=DEFAULT.batch_bytes)


def parse(parser: Parser, sent: bytes, *, piece_bytes: int = 8_192) -> int:
    """Feed a parser in pieces until it has a whole request, or all bytes; returns how many bytes it took."""
    taken = 0
    while taken < len(sent) and not parser.completed:
        taken += parser.received(sent[taken : taken + piece_bytes])
    return taken


@pytest.mark.parametrize(
    ("sent", "status", "message"),
    [
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (DEFAULT.batch_bytes + 1),
            413,
            "the body is over the limit of 10485760 bytes",
        ),
        (
            b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
            431,
            "the headers are over the limit of 16384 bytes",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
            400,
            "this is not valid HTTP: Invalid character in Content-Length",
        ),
        (b"nonsense\r\n\r\n", 400, "this is not valid HTTP: "),
        (b"GET /" + b"x" * 8_192 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "the URL is over the limit of 8192 bytes"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "HTTP/1.1 needs a host header"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400, "host is given more than once"),
        (b"\r\n GET / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "Invalid method"),
        (b"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "Invalid char in url path"),
        (b"GET / HTTP/1.1\nHost: x\n\n", 400, "Expected CRLF after version"),
        (b"GET / HTTP/1.1\r\nHost: x\rX: y\r\n\r\n", 400, "Missing expected LF after header value"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: y\r\n z\r\n\r\n", 400, "Unexpected whitespace after header value"),
        (b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "the URL is not valid"),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 999999999\r\n\r\n",
            413,
            "the body is over the limit of 10485760 bytes",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            "Transfer-Encoding can't be present with Content-Length",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            "Invalid `Transfer-Encoding` header value",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            400,
            "Duplicate Content-Length",
        ),
        *(
            (
                b"POST / %s\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % rest,
                400,
                "this is not valid HTTP: Expected CRLF after version",
            )
            for rest in (b"HTTP/1.0 ", b"HTTP/1.1 ")
        ),
        *(
            (first + b"\r\nHost: x\r\n\r\n", 400, "the first line must be METHOD URL")
            for first in (
                *(b"GET / HTTP/2.0", b"GET /  HTTP/1.1", b"GET  / HTTP/1.1", b"GET / RTSP/1.0", b"SOURCE / ICE/1.0"),
                b"GET /\r\n",
            )
        ),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "CONNECT is for proxies"),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400, "not 'gzip, chunked'"),
        (
            b"PUT / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            "a request for an upgrade may not have a body in chunks",
        ),
        *(
            (
                b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + line + b"hi\r\n0\r\n\r\n",
                400,
                "in chunk size" if line not in {b"2\n", b"2\n\r\n"} else "after chunk size",
            )
            for line in (b"2\n", b"\r\n2\r\n", b"+2\r\n", b"0x2\r\n", b"2\n\r\n")
        ),
        *(
            (
                b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + line + b"\r\n",
                400,
                "this is not valid HTTP: " + wrong,
            )
            for line, wrong in (
                (b"GET / HTTP/1.1\r\n", "Invalid header token"),
                (b"X: y\n", "Missing expected CR after header value"),
                (b" X: y\r\n", "Invalid header token"),
                (b"X : y\r\n", "Invalid header token"),
                (b"X: \0\r\n", "Invalid header value char"),
            )
        ),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1;" + b"1" * 65_536,
            400,
            "chunk extensions or trailers are over the limit of 16384 bytes",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 8_192,
            400,
            "chunk extensions or trailers are over the limit of 16384 bytes",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
            400,
            "this is not valid HTTP: Request has invalid `Transfer-Encoding`",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked, chunked\r\n\r\n0\r\n\r\n",
            400,
            "Invalid `Transfer-Encoding` header value",
        ),
        (
            b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            "HTTP/1.0 has no transfer-encoding",
        ),
    ],
)
def test_an_invalid_or_ambiguous_request_is_rejected(sent: bytes, status: int, message: str) -> None:
    """What exceeds a limit, is no HTTP, or could be read in another way by a proxy, is rejected with one sentence."""
    parser = Parser(LIMITS)
    parse(parser, sent)

    assert parser.error
    assert status == parser.error.code
    assert message in rejection_message(parser.error.code, parser.error.body, DEFAULT)


@pytest.mark.parametrize("piece_bytes", [1, 7])
def test_a_rejected_request_is_rejected_in_pieces_of_any_size(piece_bytes: int) -> None:
    """A CR at the end of a piece is not yet a bare one; a bare CR is rejected all the same."""
    valid, bare = Parser(LIMITS), Parser(LIMITS)
    parse(valid, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n\n\r\n", piece_bytes=piece_bytes)
    parse(bare, b"GET / HTTP/1.1\r\nHost: x\rX: y\r\n\r\n", piece_bytes=piece_bytes)

    assert (True, None, b"\n\r\n") == (valid.completed, valid.error, valid.get_body_stream().read())
    assert Rejection(400, "Missing expected LF after header value") == bare.error
    valid.close()


def test_a_rejected_request_has_a_path() -> None:
    """It is empty: waitress logs it when the client has left, and without it the connection would never be closed."""
    parser = Parser(Adjustments())
    parser.received(b"GET / HTTP/1.0\r\nNoColon\r\n\r\n")

    assert (Rejection(400, "Invalid header token"), "", "") == (parser.error, parser.path, parser.command)


def test_trailers_are_dropped() -> None:
    """Headers after the last chunk do not change those of the request, however many they are, up to the limit."""
    parser = Parser(Adjustments(max_request_header_size=20_000))
    sent = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n" + b"a:\r\n" * 4_000
    assert len(sent) == parse(parser, sent)
    assert not parser.completed
    parser.received(b"\r\n")

    assert (True, None, b"hi") == (parser.completed, parser.error, parser.get_body_stream().read())
    assert {"HOST": "x", "CONTENT_LENGTH": "2"} == parser.headers
    parser.close()


class CountingLlhttp:
    """llhttp, with the sizes of the pieces that it was fed.

    Args:
        callbacks: the parser.
    """

    def __init__(self, callbacks: Parser) -> None:
        self._llhttp = httptools.HttpRequestParser(callbacks)
        self.get_method, self.get_http_version = self._llhttp.get_method, self._llhttp.get_http_version
        self.fed_bytes: list[int] = []

    def feed_data(self, piece: bytes) -> None:
        """See httptools."""
        self.fed_bytes.append(len(piece))
        self._llhttp.feed_data(piece)


def test_a_chunk_is_parsed_at_once() -> None:
    """A call of llhttp for each line of a chunk would take seconds of the loop, if all lines are empty."""
    made: list[CountingLlhttp] = []

    def new_llhttp(callbacks: Parser) -> CountingLlhttp:
        made.append(CountingLlhttp(callbacks))
        return made[-1]

    parser = Parser(Adjustments(), new_llhttp=new_llhttp)
    sent = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4E20\r\n%b\r\n0\r\n\r\n" % (b"\n" * 20_000)
    parse(parser, sent)

    assert (True, None, 20_000) == (parser.completed, parser.error, len(parser.get_body_stream().read()))
    assert 0 < len(made[0].fed_bytes) < 10
    parser.close()


CHUNKS = b"3;x=y\r\n\n\r\n\r\n2\r\nbc\r\n0\r\nX: y\r\n\r\n"
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"


@pytest.mark.parametrize("piece_bytes", [1, 7, 8_192])
@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (b"\r\n\r\nPOST /a%20b?c=%20 HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\na\r\n\r\nb", b"a\r\n\r\nb"),
        (
            b"POST /a%20b?c=%20 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n" + CHUNKS,
            b"\n\r\nbc",
        ),
        (
            b"POST http://x/a%20b?c=%20 HTTP/1.1\r\nHost: x\r\n" + UPGRADE + b"Content-Length: 2\r\n\r\nhi",
            b"hi",
        ),
        (b"GET /a%20b?c=%20 HTTP/1.1\r\nHost: x\r\n\r\n", b""),
    ],
)
def test_the_bytes_after_a_request_are_left_for_the_next_one(sent: bytes, body: bytes, piece_bytes: int) -> None:
    """The next request begins at the same byte, whatever pieces the request arrives in."""
    parser = Parser(Adjustments())
    taken = parse(parser, sent + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", piece_bytes=piece_bytes)

    assert (len(sent), None) == (taken, parser.error)
    assert ("/a b", "c=%20", body) == (parser.path, parser.query, parser.get_body_stream().read())
    parser.close()
