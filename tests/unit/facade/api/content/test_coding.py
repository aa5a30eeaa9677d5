"""Tests of facade.api.content.coding: compressed requests and responses."""

import gzip
import itertools
import json
import zlib
from collections.abc import Generator
from functools import partial

import pytest
from falcon import testing

from common.errors import MediaTypeError, RequestError, TooLargeError
from facade.api.content import coding
from tests.support.facade import NODES, MemorySystem

LIMIT = 1_000
compress = partial(gzip.compress, mtime=0)  # the time would make the names of tests differ
LINES = b"".join(b'{"msg":"line %d"}\n' % number for number in range(50))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("gzip;q=0.001", True),
        ("gzip;q=1.5", False),
        ("gzip;q=x", False),
        ("deflate, gzip;q=0.5", True),
        ("br", False),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("*;q=0, gzip", True),
        ("identity;q=0", False),
        ("notgzip", False),
    ],
)
def test_the_weights_of_accept_encoding_decide(header: str | None, *, expected: bool) -> None:
    """A weight of 0 refuses a coding, also where another one or `*` is named; a wrong weight counts as 0."""
    assert expected is coding.accepts(header, coding.GZIP)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (None, b"text"),
        ("identity", b"text"),
        ("gzip", compress(b"text")),
        ("X-GZip", compress(b"text")),
        ("gzip", compress(b"te") + compress(b"xt")),
        ("deflate", zlib.compress(b"text")),
        ("deflate", zlib.compress(b"text")[2:-4]),
        ("identity, gzip", compress(b"text")),
        ("gzip,", compress(b"text")),
    ],
)
def test_a_body_is_decompressed(encoding: str | None, body: bytes) -> None:
    """Identity is no coding; gzip may have several members, and deflate has two forms in the field."""
    assert b"text" == coding.decoded(body, encoding, LIMIT)


@pytest.mark.parametrize(
    ("encoding", "body", "error", "reason"),
    [
        ("br", b"x", MediaTypeError, "Content-Encoding must be gzip or deflate, not 'br'"),
        ("gzip, zstd", b"x", MediaTypeError, "not 'gzip, zstd'"),
        ("gzip," * 3_000, b"x", MediaTypeError, "not 'gzip, gzip"),
        ("gzip", compress(b"") * 100_000, RequestError, "the body has over 16 gzip members"),
        ("gzip", b"text", RequestError, "the body is not valid gzip"),
        ("gzip", b"", RequestError, "it is cut off"),
        ("gzip", compress(b"text")[:-1], RequestError, "it is cut off"),
        ("gzip", compress(b"text") + b"rest", RequestError, "the body is not valid gzip"),
        ("deflate", zlib.compress(b"text") + b"rest", RequestError, "4 bytes follow its end"),
        ("gzip", compress(b"x" * (LIMIT + 1)), TooLargeError, "over the limit of 1000 bytes"),
        ("gzip", compress(b"x" * LIMIT) + compress(b"x"), TooLargeError, "over the limit of 1000 bytes"),
    ],
)
def test_a_wrong_coding_is_one_error(encoding: str, body: bytes, error: type[Exception], reason: str) -> None:
    """A coding that is unknown, a body that is not valid in it, and one that grows too large are told apart."""
    with pytest.raises(error, match=reason):
        coding.decoded(body, encoding, LIMIT)


def test_a_bomb_takes_no_more_memory_than_the_limit() -> None:
    """A body of a few kilobytes that would become a gigabyte is refused as soon as it exceeds the limit."""
    compressor = zlib.compressobj(9, wbits=31)
    bomb = b"".join(compressor.compress(bytes(1_048_576)) for _ in range(64)) + compressor.flush()

    with pytest.raises(TooLargeError):
        coding.decoded(bomb, "gzip", LIMIT)


def test_each_chunk_of_a_compressed_stream_can_be_read_when_it_arrives() -> None:
    """A follower sees an event at once, and not when the compressor's buffer is full."""
    decompressor = zlib.decompressobj(wbits=31)
    chunks = coding.compressed(chunk for chunk in (b"one", b"two"))

    assert [b"one", b"two"] == [decompressor.decompress(chunk) for chunk in itertools.islice(chunks, 2)]
    assert b"" == decompressor.decompress(b"".join(chunks))
    assert decompressor.eof


def test_compressed_lines_are_stored_and_read(http: testing.TestClient) -> None:
    """A shipper posts gzip, and reads gzip if it asks for it."""
    headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
    posted = http.simulate_post("/v1/messages", body=compress(LINES), headers=headers)
    read = http.simulate_get("/v1/messages", headers={"Accept": "application/x-ndjson", "Accept-Encoding": "gzip"})
    plain = http.simulate_get("/v1/messages", headers={"Accept": "application/x-ndjson", "Accept-Encoding": "gzip;q=0"})

    assert 200 == posted.status_code
    assert 50 == len(posted.json["results"])
    assert ("gzip", "Accept, Accept-Encoding") == (read.headers["content-encoding"], read.headers["vary"])
    assert plain.content == gzip.decompress(read.content)
    assert [f"line {number}" for number in range(50)] == [
        json.loads(line)["msg"] for line in plain.content.splitlines()
    ]
    assert "content-encoding" not in plain.headers


def test_an_unknown_coding_is_415_with_those_that_are_taken(http: testing.TestClient) -> None:
    """Nothing is stored, and Accept-Encoding of the response names the codings (RFC 9110, section 15.5.16)."""
    headers = {"Content-Type": "text/plain", "Content-Encoding": "zstd"}
    refused = http.simulate_post("/v1/messages", body=b"x", headers=headers)

    assert (415, "gzip, deflate") == (refused.status_code, refused.headers["accept-encoding"])


def test_a_stream_that_the_client_leaves_is_closed() -> None:
    """The generator behind a compressed stream is closed with it, so that its slot is free again."""
    closed: list[bool] = []

    def chunks() -> Generator[bytes, None, None]:
        try:
            yield b"one"
            yield b"two"
        finally:
            closed.append(True)

    stream = coding.compressed(chunks())
    next(stream)
    stream.close()

    assert [True] == closed


def test_an_error_before_a_compressed_stream_is_not_compressed(system: MemorySystem) -> None:
    """A browser asks for gzip, and must be able to read why it gets no events."""
    for node in NODES:
        system.transport.kill(node)
    headers = {"Accept": "text/event-stream", "Accept-Encoding": "gzip"}
    refused = system.http().simulate_get("/v1/messages?after=01a20c21-40b9-743e-8cff-65c316df4a96", headers=headers)

    assert 503 == refused.status_code
    assert "content-encoding" not in refused.headers
    assert 503 == refused.json["status"]
