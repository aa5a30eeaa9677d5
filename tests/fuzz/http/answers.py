"""Reads HTTP answers strictly, and never waits without end: what is no valid answer is an error that says why."""

import re
import socket
import time
from dataclasses import dataclass

CUT_BYTES = 65_536  # of one body; who has so much of a stream leaves, as clients do
HEAD_BYTES = 32_768  # of status line and headers
READ_BYTES = 65_536

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d) [\x20-\x7e]*")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\x80-\xff\t]*)")
_ONCE = (b"connection", b"content-length", b"content-type", b"transfer-encoding")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")


class AnswerError(Exception):
    """What came is no valid answer, or none came in time."""


class EndedError(Exception):
    """The connection ended before an answer began; `reset`: with something on its way that was lost."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__()
        self.reset = reset


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; its body as far as it was read.

    Attributes:
        left: the connection cannot be used any more, for the body goes on, or the server closes it.
    """

    status: int
    headers: dict[bytes, bytes]
    body: bytes
    left: bool


class Reader:
    """The answers on one connection, one after the other."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""
        self._reset = False

    def answer(self, method: str, wait_s: float) -> Answer:
        """The next final answer, to a request of that method.

        Raises:
            EndedError: the connection ended instead.
            AnswerError: it is not valid, or not there within `wait_s`.
        """
        ends = time.monotonic() + wait_s
        while (head := self._head(ends))[0] // 100 == 1:  # 100 Continue
            pass
        status, headers = head
        body, open_end = self._body(method, status, headers, ends)
        closed = headers.get(b"connection", b"").lower() == b"close"
        if closed and not open_end and (rest := self._rest(ends)):
            raise AnswerError(f"after an answer that is the last one: {rest[:100]!r}")
        return Answer(status, headers, body, left=open_end or closed)

    def _head(self, ends: float) -> tuple[int, dict[bytes, bytes]]:
        while b"\r\n\r\n" not in self._buffer:
            if len(self._buffer) > HEAD_BYTES:
                raise AnswerError(f"no end of the headers in {HEAD_BYTES} bytes: {self._buffer[:100]!r}")
            if not self._more(ends):
                if self._buffer:
                    raise AnswerError(f"it ends within its headers: {self._buffer[:100]!r}")
                raise EndedError(reset=self._reset)
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        if not (status := _STATUS.fullmatch(first)):
            raise AnswerError(f"no status line: {first[:100]!r}")
        found = [_HEADER.fullmatch(line) for line in lines]
        if None in found:
            raise AnswerError(f"no header: {lines[found.index(None)][:100]!r}")
        headers = {match[1].lower(): match[2] for match in found if match}
        names = [match[1].lower() for match in found if match]
        if doubled := [name for name in _ONCE if names.count(name) > 1]:
            raise AnswerError(f"{doubled[0]!r} is there twice")
        return int(status[1]), headers

    def _body(self, method: str, status: int, headers: dict[bytes, bytes], ends: float) -> tuple[bytes, bool]:
        """The body, and whether more of it would come."""
        if method == "HEAD" or status in (204, 304):
            return b"", False
        if headers.get(b"content-type", b"").startswith(b"text/event-stream"):
            return b"", True
        if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
            return self._chunks(ends)
        if (length := headers.get(b"content-length")) is None:
            return self._rest(ends), True
        if not length.isdigit():
            raise AnswerError(f"no length: {length!r}")
        return (self._take(int(length), ends), False) if int(length) <= CUT_BYTES else (b"", True)

    def _chunks(self, ends: float) -> tuple[bytes, bool]:
        body = b""
        while len(body) <= CUT_BYTES:
            while not (size := _CHUNK.match(self._buffer)):
                if b"\r\n" in self._buffer[:10] or len(self._buffer) > 10:
                    raise AnswerError(f"no chunk: {self._buffer[:20]!r}")
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
            raise AnswerError("it ends within its body")

    def _more(self, ends: float) -> bool:
        """Take what comes; whether something came before the end of the connection."""
        try:
            self._connection.settimeout(max(0.001, ends - time.monotonic()))
            came = self._connection.recv(READ_BYTES)
        except TimeoutError as error:
            raise AnswerError("hang: neither an answer nor the end of the connection in time") from error
        except ConnectionError:
            self._reset, came = True, b""
        self._buffer += came
        return bool(came)
