"""A strict reader of HTTP answers with deadlines; an invalid answer raises an error that says why."""

import re
import socket
import time
from dataclasses import dataclass

CUT_BYTES = 65_536  # of one body; the reader leaves a longer stream, as clients do
HEAD_BYTES = 32_768  # most bytes of the status line and headers
READ_BYTES = 65_536  # of one read from the socket

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d) [\x20-\x7e]*")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\x80-\xff\t]*)")
_ONCE = (b"connection", b"content-length", b"content-type", b"transfer-encoding")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")


class AnswerError(Exception):
    """The answer is not valid, or did not arrive in time."""


class EndedError(Exception):
    """The connection ended before an answer began; `reset` if by a reset, which may have lost an answer."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__()
        self.reset = reset


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, with its body as far as it was read.

    Attributes:
        left: the connection cannot be used again, because the body is longer, or the server closes it.
    """

    status: int
    headers: dict[bytes, bytes]
    body: bytes
    left: bool


class Reader:
    """Reads the answers on one connection, one after the other."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""
        self._reset = False

    def answer(self, method: str, wait_s: float) -> Answer:
        """The next final answer; `method` is that of its request.

        Raises:
            EndedError: the connection ended before an answer.
            AnswerError: the answer is not valid, or not complete within `wait_s`.
        """
        ends = time.monotonic() + wait_s
        while (head := self._head(ends))[0] // 100 == 1:  # 100 Continue
            pass
        status, headers = head
        body, open_end = self._body(method, status, headers, ends)
        closed = headers.get(b"connection", b"").lower() == b"close"
        if closed and not open_end and (rest := self._rest(ends)):
            raise AnswerError(f"data after the last answer: {rest[:100]!r}")
        return Answer(status, headers, body, left=open_end or closed)

    def _head(self, ends: float) -> tuple[int, dict[bytes, bytes]]:
        while b"\r\n\r\n" not in self._buffer:
            if len(self._buffer) > HEAD_BYTES:
                raise AnswerError(f"no end of the headers in {HEAD_BYTES} bytes: {self._buffer[:100]!r}")
            if not self._more(ends):
                if self._buffer:
                    raise AnswerError(f"the answer ends within its headers: {self._buffer[:100]!r}")
                raise EndedError(reset=self._reset)
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        if not (status := _STATUS.fullmatch(first)):
            raise AnswerError(f"not a status line: {first[:100]!r}")
        found = [_HEADER.fullmatch(line) for line in lines]
        if None in found:
            raise AnswerError(f"not a header: {lines[found.index(None)][:100]!r}")
        headers = {match[1].lower(): match[2] for match in found if match}
        names = [match[1].lower() for match in found if match]
        if doubled := [name for name in _ONCE if names.count(name) > 1]:
            raise AnswerError(f"{doubled[0]!r} appears twice")
        return int(status[1]), headers

    def _body(self, method: str, status: int, headers: dict[bytes, bytes], ends: float) -> tuple[bytes, bool]:
        """The body as far as it is read, and whether it is longer."""
        if method == "HEAD" or status in (204, 304):
            return b"", False
        if headers.get(b"content-type", b"").startswith(b"text/event-stream"):
            return b"", True
        if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
            return self._chunks(ends)
        if (length := headers.get(b"content-length")) is None:
            return self._rest(ends), True
        if not length.isdigit():
            raise AnswerError(f"not a length: {length!r}")
        return (self._take(int(length), ends), False) if int(length) <= CUT_BYTES else (b"", True)

    def _chunks(self, ends: float) -> tuple[bytes, bool]:
        body = b""
        while len(body) <= CUT_BYTES:
            while not (size := _CHUNK.match(self._buffer)):
                if b"\r\n" in self._buffer[:10] or len(self._buffer) > 10:
                    raise AnswerError(f"not a chunk: {self._buffer[:20]!r}")
                self._need(ends)
            self._buffer = self._buffer[size.end() :]
            if (length := int(size[1], 16)) > CUT_BYTES:
                return body, True
            chunk = self._take(length + 2, ends)
            if not chunk.endswith(b"\r\n"):
                raise AnswerError(f"a chunk ends with {chunk[-2:]!r}")
            body += chunk[:-2]
            if not length:
                return body, False
        return body, True

    def _take(self, count: int, ends: float) -> bytes:
        while len(self._buffer) < count:
            self._need(ends)
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def _rest(self, ends: float) -> bytes:
        while len(self._buffer) <= CUT_BYTES and self._more(ends):
            pass
        rest, self._buffer = self._buffer, b""
        return rest

    def _need(self, ends: float) -> None:
        if not self._more(ends):
            raise AnswerError("the answer ends within its body")

    def _more(self, ends: float) -> bool:
        """Read more bytes into the buffer; False if the connection has ended."""
        try:
            self._connection.settimeout(max(0.001, ends - time.monotonic()))
            received = self._connection.recv(READ_BYTES)
        except TimeoutError as error:
            raise AnswerError("hang: neither an answer nor the end of the connection in time") from error
        except ConnectionError:
            self._reset, received = True, b""
        self._buffer += received
        return bool(received)
