"""Strategies for complete HTTP requests, as bytes: valid ones, and many kinds of invalid ones."""

import json
from collections.abc import Callable, Sequence

from hypothesis import strategies as st

from common.protocol.content import MESSAGE_BYTES
from facade.server.parser import DEFAULT

ID = "018bcfe5-687b-7fff-bfff-ffffffffffff"
NESTED = 5_000  # nested brackets: more than Python's JSON parser allows
DIGITS = 5_000  # of a number: more than Python converts to an int
CHUNK_BYTES = 7  # so that most bodies have several chunks

JSON, NDJSON, TEXT = b"application/json", b"application/x-ndjson", b"text/plain"

_PATHS = (
    *(b"/", b"/facade", b"/v1/messages", f"/v1/messages/{ID}".encode(), b"/v1/cluster", b"/v1/history"),
    *(b"/v1/limits", b"/livez", b"/readyz", b"/readyz?verbose", b"/metrics", b"/openapi.json", b"/assets/page.js"),
)
_ODD_PATHS = (
    *(b"", b"*", b"//", b"/..", b"/../../etc/passwd", b"/assets/%2e%2e/app.py", b"/assets/..%2f..%2fapp.py"),
    *(b"/assets/%00", b"/v1/messages/%ff", b"/v1/messages/" + b"x" * 200, b"http://x/facade", b"http://[/facade"),
    *(b"/f%61cade", b"/facade/", b"/%", b"/%zz", b"/\xff\xfe", b"/v1/messages/%0d%0aX:y", b"//x:y/", b"http://[::1"),
    b"/" + b"x" * DEFAULT.url_bytes,
)
_QUERIES = (
    *(b"after=", b"after=" + ID.encode(), b"after=x", b"after=%00", b"limit=1", b"limit=1000", b"limit=0"),
    *(b"limit=" + b"9" * DIGITS, b"limit=1e3", b"limit=%F0%9F%92%A9", b"order=desc", b"order=up", b"from=2024-01-01"),
    *(b"from=2024-01-01T00:00:00Z", b"to=9999-12-31T23:59:59Z", b"to=0001-01-01T00:00:00%2B14:00", b"from=%ff"),
    *(b"from=1969-12-31T23:59:59Z", b"verbose", b"verbose=1&verbose=2", b"after=&after=", b"&&==&", b"%=%"),
    *(b"from=2024-02-30T00:00:00Z", b"to=10889-08-02T05:31:50.656Z", b"limit=-1", b"limit=\xff"),
    *(
        b"contains=a",
        b"contains=%00",
        b"contains=%ff",
        b"contains=" + b"%25" * 1_001,
        b"field.a=1",
        b"field.=",
        b"field.x",
    ),
)
_POST_QUERIES = (b"msg_field=msg", b"msg_field=x", b"time_field=ttl", b"msg_field=", b"time_field=msg", b"limit=1")
_METHODS = (b"GET", b"POST", b"HEAD")
_ODD_METHODS = (b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"CONNECT", b"get", b"FOO", b"G\xe9T", b"X" * 300)
_VERSIONS = (b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0")
_ODD_VERSIONS = (b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.11", b"http/1.1", b"", b"HTTP/1.", b"HTTP/9", b"SPAM/1.1")

_HEADERS = (
    *(b"Accept: application/json", b"Accept: application/x-ndjson", b"Accept: text/event-stream", b"Accept: */*;q=x"),
    *(b"Accept: text/event-stream;q=0.1, */*", b"Accept: ", b"Accept: ;;,,/", b"Accept-Encoding: gzip", b"Expect: x"),
    *(b"Idempotency-Key: order-7", b'Idempotency-Key: "order-8"', b"Idempotency-Key: ", b"Idempotency-Key: \xff"),
    *(b"Idempotency-Key: " + b"k" * 256, b"X-Request-ID: r-1", b"X-Request-ID: \x01", b"X-Request-ID: " + b"r" * 200),
    *(b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", b"traceparent: 00-x", b"Connection: x"),
    *(b"Last-Event-ID: " + ID.encode(), b"Last-Event-ID: 7", b'If-None-Match: "x"', b'If-None-Match: W/"', b"Range: x"),
    *(b"If-None-Match: *", b"Connection: close", b"Connection: keep-alive", b"Expect: 100-continue", b"Origin: null"),
    *(b"Forwarded: for=x", b"X-Forwarded-For: \xff", b"Cookie: a=b; c", b"Upgrade: websocket", b"If-None-Match: \xff,"),
)
_ODD_HEADERS = (
    *(b"Host: y", b" folded: x", b"X: y\r\n\tfolded", b"X: y\nZ: z", b"X: y\rZ: z", b"NoColon", b": nameless"),
    *(b"X : spaced", b"X\x00: y", b"X: \x00", b"X_Y: z", b"\xff: y", b"Content-Length: 5", b"Transfer-Encoding: gzip"),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: \x0bchunked"),
    *(
        b"X: " + b"x" * DEFAULT.header_bytes,
        b"Host: ",
        b"Host: [",
        b"Host: x y",
        b"Content-Type: ",
        b"Content-Type: \xff",
    ),
)
_LENGTHS = (b"-1", b"+5", b"0x5", b"5 5", b"5,5", b"", b"1e1", b"9" * 30, b"\xb2", b"0", b"1", b"1000", b"10485761")

_text = st.text(max_size=60)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4),
    max_leaves=12,
)
_fields = st.dictionaries(_text, _text | st.integers() | st.floats() | st.booleans(), max_size=3)
_more = {"ttl": _json, "Msg": _text, "fields": _fields | _json, "key": _text}
_posts = st.fixed_dictionaries({"msg": _text | _json}, optional=_more) | _json
_ODD_JSON = (
    *(b"", b"{", b"[", b"[]", b"{}", b"null", b'{"msg": NaN}', b'{"msg": "a", "msg": "b"}', b'{"msg": "\\ud800"}'),
    *(b'{"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "a"}, "traceId": "x"}]}]}]}',),
    *(b'{"msg": "\\udc00\\ud800"}', b'{"msg": "\xff"}', b'{"msg": "\xed\xa0\x80"}', b'\xef\xbb\xbf{"msg": "a"}'),
    *(b"[" * NESTED, b'{"msg":' * NESTED, b'{"x": ' + b"9" * DIGITS + b', "msg": "a"}', b'{"msg": "a"} x', b"[1,]"),
    *(b'[{"msg": "a"}, ' + b"[" * NESTED + b"]" * NESTED + b"]", b'{"msg": "\\u0000"}', b'{"msg": -Infinity}'),
    *(
        b'{"msg": "' + b"x" * (MESSAGE_BYTES + 1) + b'"}',
        b'{"msg": 1e999}',
        b'\xff\xfe{\x00"\x00',
        b"[" + b"1," * 9_000,
    ),
)


def _mostly(valid: Sequence[bytes], odd: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """A valid value in 15 of 16 cases, otherwise an odd one."""
    return st.integers(0, 15).flatmap(lambda number: st.sampled_from(odd if number == 15 else valid))


def _dumped(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


_good = st.fixed_dictionaries({"msg": st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)})
bodies: st.SearchStrategy[tuple[bytes, bytes]] = st.one_of(  # media type and body
    *[st.tuples(st.just(JSON), _good.map(_dumped))] * 2,
    st.tuples(st.just(NDJSON), st.lists(_good.map(_dumped), min_size=1, max_size=6).map(b"\n".join)),
    st.tuples(st.just(JSON), _posts.map(_dumped)),
    st.tuples(st.just(JSON), _posts.map(lambda value: json.dumps(value).encode())),
    st.tuples(st.just(JSON), st.lists(_posts, max_size=6).map(_dumped)),
    st.tuples(st.just(NDJSON), st.lists(_posts.map(_dumped), max_size=6).map(b"\n".join)),
    st.tuples(st.just(TEXT), _text.map(lambda text: text.encode("utf-8", "surrogatepass"))),
    st.tuples(st.sampled_from((JSON, NDJSON, TEXT)), st.sampled_from(_ODD_JSON) | st.binary(max_size=100)),
    st.tuples(st.sampled_from((b"", b"a/b", b"application/json; charset=\xff")), st.binary(max_size=30)),
)


def _chunked(body: bytes) -> bytes:
    chunks = [body[begin : begin + CHUNK_BYTES] for begin in range(0, min(len(body), 400), CHUNK_BYTES)]
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


_FRAMED: tuple[Callable[[bytes], tuple[bytes, bytes]], ...] = (  # a header line of the body, and the body as it is sent
    *[lambda body: (b"Content-Length: %d" % len(body), body)] * 5,
    lambda body: (b"Transfer-Encoding: chunked", _chunked(body)),
    lambda body: (b"Transfer-Encoding: Chunked", _chunked(body).replace(b"\r\n", b";x=y\r\n", 1) + b"\r\n"),
)
_MISFRAMED: tuple[Callable[[bytes], tuple[bytes, bytes]], ...] = (
    lambda body: (b"Content-Length: %d" % (len(body) + 1), body),
    lambda body: (b"Content-Length: %d" % (len(body) // 2), body),
    lambda body: (b"Content-Length: %d\r\nTransfer-Encoding: chunked" % len(body), _chunked(body)),
    lambda body: (b"Content-Length: %d\r\nContent-Length: %d" % (len(body), len(body)), body),
    lambda body: (b"Transfer-Encoding: chunked", body),
    lambda body: (b"Transfer-Encoding: chunked", _chunked(body).replace(b"\r\n", b"\n")),
    lambda body: (b"Transfer-Encoding: chunked", b"ffffffffffffffffffff\r\n" + body),
    lambda body: (b"Transfer-Encoding: chunked", b"-1\r\n" + body + b"\r\n0\r\n\r\n"),
    lambda body: (b"Transfer-Encoding: chunked", _chunked(body)[:-2] + b"X: trailer\r\n\r\n"),
    lambda body: (b"X: no length", body),
)


@st.composite
def http_requests(draw: st.DrawFn) -> bytes:
    """One request; about five of eight are valid HTTP."""
    version = draw(_mostly(_VERSIONS, _ODD_VERSIONS))
    if draw(st.booleans()):
        method, path = b"POST", draw(st.sampled_from((b"/facade", b"/v1/messages", b"/v1/messages", b"/v1/logs")))
    else:
        method, path = draw(_mostly(_METHODS, _ODD_METHODS)), draw(_mostly(_PATHS, _ODD_PATHS))
    queries, most = (_POST_QUERIES, draw(st.integers(0, 9)) // 8) if method == b"POST" else (_QUERIES, 2)
    if asked := draw(st.lists(st.sampled_from(queries), max_size=most)):
        path += b"?" + b"&".join(asked)
    lines = [b"Host: localhost"] if draw(st.integers(0, 31)) else []
    lines += draw(st.lists(_mostly(_HEADERS, _ODD_HEADERS), max_size=3))
    if method == b"POST" or not draw(st.integers(0, 7)):
        media_type, body = draw(bodies)
        framing, sent = _length(draw, body)
        lines += [b"Content-Type: " + media_type, framing]
    else:
        sent = b""
    whole = b" ".join((method, path, version)) + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + sent
    return whole[: draw(st.integers(1, len(whole)))] if not draw(st.integers(0, 31)) else whole


def _length(draw: st.DrawFn, body: bytes) -> tuple[bytes, bytes]:
    """A header line that frames the body, mostly a valid one, and the body as it is sent."""
    match draw(st.integers(0, 15)):
        case 15:
            return b"Content-Length: " + draw(st.sampled_from(_LENGTHS)), body
        case 13 | 14:
            return draw(st.sampled_from(_MISFRAMED))(body)
        case _:
            return draw(st.sampled_from(_FRAMED))(body)
