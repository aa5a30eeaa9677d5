"""Parses HTTP requests with llhttp, and rejects requests that other servers could interpret differently."""

from collections.abc import Callable
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

import httptools
from waitress.buffers import OverflowableBuffer

from common.config import Limits
from facade.server import validation
from facade.server.validation import Rejection

DEFAULT = Limits()
_HEAD_END = b"\r\n\r\n"


class Parser:
    """Parses one request; has the interface of waitress' `parser_class`.

    llhttp does not report where a request ends, so it must not get bytes beyond that end. It first gets the bytes up to
    the end of the head. For a chunked body it then gets, at a time, a part of one chunk or one line between two chunks.
    A body with a Content-Length does not pass through llhttp.

    Args:
        adjustments: waitress' settings, with the limits of head and body in bytes.
        url_bytes: limit on the length of the URL.
        new_llhttp: makes an llhttp parser, which calls back its argument.

    Attributes:
        headers: values by name, in capitals and with `_` for `-`; repeated headers are joined by commas. A header with
            `_` in its name is dropped, because it would look like the same name with `-`.
        completed: the request is complete or rejected.
        error: why the request is rejected; None if it is not.
    """

    completed = headers_finished = expect_continue = connection_close = False
    empty = False
    error: Rejection | None = None
    version = "1.0"
    command = path = query = request_uri = ""  # defined for rejected requests too, because waitress logs the path
    url_scheme = "http"

    def __init__(
        self,
        adjustments: Any,
        *,
        url_bytes: int = DEFAULT.url_bytes,
        new_llhttp: Callable[["Parser"], Any] = httptools.HttpRequestParser,
    ) -> None:
        self.headers: dict[str, str] = {}
        self._header_bytes = adjustments.max_request_header_size
        self._body_bytes = adjustments.max_request_body_size
        self._overflow_bytes = adjustments.inbuf_overflow
        self._url_bytes = url_bytes
        self._llhttp: Any = new_llhttp(self)
        self._head = self._url = b""
        self._hosts = 0
        self._body: Any = None
        self._head_received = 0  # bytes, including blank lines before the request
        self._received = 0  # bytes of the body
        self._length = 0  # the Content-Length of a body that is not chunked
        self._chunked = self._ended = False
        self._line = b""  # the current line between two chunks or after the last chunk
        self._has_size = False  # the current line has the size of a chunk
        self._chunk_left = 0
        self._framing_bytes = 0  # of lines since the last byte of the body

    def received(self, data: bytes) -> int:
        """Parse more bytes. Returns how many of them belong to this request; all of them if it is rejected."""
        taken = 0
        while taken < len(data) and not self.completed:
            if not self.headers_finished:
                taken += self._take_head(data[taken:])
            elif self._chunked:
                taken += self._take_chunks(data, taken)
            else:
                taken += self._take_body(data[taken : taken + self._length - self._received])
        if self.completed:
            self._llhttp = None  # breaks the reference cycle between the two parsers
            self.expect_continue = False  # no body is expected any more
        return len(data) if self.error else taken

    @property
    def body_received(self) -> int:
        """The bytes of the body that have arrived."""
        return self._received

    def get_body_stream(self) -> Any:
        """The body as a file."""
        return self._body.getfile() if self._body else BytesIO()

    def close(self) -> None:
        """Delete the body, which may be in a file."""
        if self._body:
            self._body.close()

    def _take_head(self, data: bytes) -> int:
        """Feed llhttp the bytes up to the end of the head, and check their limits. Returns how many were used."""
        seam = self._head[1 - len(_HEAD_END) :]  # the end of the head may be split between two reads
        at = (seam + data).find(_HEAD_END)
        end = len(data) if at < 0 else at + len(_HEAD_END) - len(seam)
        self._head = (self._head + data[:end]).lstrip(b"\r\n")  # blank lines may precede a request
        self._head_received += end
        if self._head_received > self._header_bytes:
            self._reject(431)
        elif self._feed(data[:end]) and len(self._url) > self._url_bytes:
            self._reject(414)
        elif self.headers_finished and not self.error:
            self._begin_body()
        return end

    def _begin_body(self) -> None:
        """Validate the complete head, and determine the framing of the body."""
        headers = self.headers
        self.command, self.version = self._llhttp.get_method().decode(), self._llhttp.get_http_version()
        if unclear := validation.ambiguity(self._head.partition(b"\r\n")[0], headers, self._hosts):
            self._reject(400, unclear)
            return
        self._read_url()
        connection = headers.get("CONNECTION", "").lower()
        self.connection_close = connection == "close" or (self.version == "1.0" and connection != "keep-alive")
        self.expect_continue = self.version == "1.1" and headers.get("EXPECT", "").lower() == "100-continue"
        self._chunked = headers.pop("TRANSFER_ENCODING", None) is not None
        self._length = 0 if self._chunked else int(headers.get("CONTENT_LENGTH", "0"))
        if self._length > self._body_bytes:
            self._reject(413)
        elif self._chunked or self._length:
            self._body = OverflowableBuffer(self._overflow_bytes)
        else:
            self.completed = True

    def _read_url(self) -> None:
        try:
            url = httptools.parse_url(self._url)
        except httptools.HttpParserInvalidURLError:
            self._reject(400, "the URL is not valid")
        else:
            self.request_uri = self._url.decode("latin-1")
            self.path = unquote_to_bytes(url.path or b"").decode("latin-1")
            self.query = (url.query or b"").decode("latin-1")

    def _take_body(self, piece: bytes) -> int:
        self.on_body(piece)
        self.completed = self._received == self._length
        return len(piece)

    def _take_chunks(self, data: bytes, begin: int) -> int:
        """Feed llhttp a part of a chunk, or a line between two chunks, because a request ends at the end of a line.

        Returns how many bytes were used.
        """
        inside = self._chunk_left > 0
        end = begin + self._chunk_left if inside else data.find(b"\n", begin) + 1 or None
        piece = data[begin:end]
        if not self._feed(piece):
            return len(piece)
        if inside:
            self._chunk_left -= len(piece)
            self._framing_bytes = 0
        else:
            self._take_line(piece)
        if self._received > self._body_bytes:
            self._reject(413)
        elif self._framing_bytes > self._header_bytes:
            self._reject(400, f"chunk extensions or trailers are over the limit of {self._header_bytes} bytes")
        elif self._ended:
            self.headers["CONTENT_LENGTH"] = str(self._received)
            self.completed = True
        return len(piece)

    def _take_line(self, piece: bytes) -> None:
        """Count a line that llhttp has accepted between two chunks, and read the size of the next chunk from it."""
        self._framing_bytes += len(piece)
        self._line += piece
        if piece.endswith(b"\n"):
            if self._has_size:
                self._has_size = False
                self._chunk_left = int(self._line.partition(b";")[0], 16)
            self._line = b""

    def _feed(self, piece: bytes) -> bool:
        """Feed bytes to llhttp; False if it rejects the request."""
        try:
            self._llhttp.feed_data(piece)
        except httptools.HttpParserUpgrade:
            pass  # no other protocol is supported, so the request for an upgrade is ignored
        except httptools.HttpParserError as error:
            self._reject(400, str(error))
        return not self.error

    def _reject(self, code: int, why: str = "") -> None:
        self.error = Rejection(code, why)
        self.completed = True

    # Callbacks of llhttp

    def on_url(self, part: bytes) -> None:
        """Collect a part of the URL."""
        self._url += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header; trailers after the last chunk are dropped."""
        if self.headers_finished or b"_" in name:
            return
        key, text = name.decode("ascii").upper().replace("-", "_"), value.strip(b" \t").decode("latin-1")
        self._hosts += key == "HOST"
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def on_headers_complete(self) -> None:
        """Note the end of the head."""
        self.headers_finished = True

    def on_chunk_header(self) -> None:
        """Note that the current line has the size of a chunk."""
        self._has_size = True

    def on_body(self, part: bytes) -> None:
        """Store a part of the body."""
        self._received += len(part)
        self._body.append(part)

    def on_message_complete(self) -> None:
        """Note the end of the request; the end of a body with a Content-Length is counted in `_take_body`."""
        self._ended = True
