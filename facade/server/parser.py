"""waitress' parser of requests with our limits, and without its tolerance: what is not clear is refused."""

from typing import Any

from waitress.parser import HTTPRequestParser, ParsingError
from waitress.receiver import ChunkedReceiver
from waitress.utilities import BadRequest

from common.config import Limits
from facade.server import validation
from facade.server.load_shedding import Refusal

DEFAULT = Limits()


class Parser(HTTPRequestParser):  # type: ignore[misc]  # waitress ships no types
    """Refuses what is not clear, and a first line of over `url_bytes`."""

    completed = False
    body_rcv: Any
    path = command = ""  # until the first line is read; waitress names the path when the client has left before

    def __init__(self, adjustments: Any, *, url_bytes: int = DEFAULT.url_bytes) -> None:
        super().__init__(adjustments)
        self._url_bytes = url_bytes
        self._seen = 0  # bytes of the headers that were looked at already

    def received(self, data: bytes) -> int:
        """Take more of the request; how much of it was taken."""
        if not (self.completed or self.headers_finished):
            head = (self.header_plus + data).partition(b"\r\n\r\n")[0][: self.adj.max_request_header_size]
            if unclear := validation.unclear_begin(head, self._seen):
                return self._refuse(BadRequest(unclear), len(data))
            self._seen = max(0, len(head) - 1)  # what a CR at the end means is not known yet
        taken = int(super().received(data))
        if self.completed:
            self.expect_continue = False  # waitress would ask for a body that is refused, or that there is none of
        return taken

    def parse_header(self, header_plus: bytes) -> None:
        """Read the first line and the headers; raises ParsingError."""
        first_line, *lines = header_plus.split(b"\r\n")
        if len(first_line) > self._url_bytes:
            self._refuse(Refusal(414), 0)
            return
        if unclear := validation.ambiguity(first_line, [line for line in lines if line]):
            raise ParsingError(unclear)
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # of urllib, which waitress lets pass: "http://[" and the like
            raise ParsingError("the URL is not valid") from error
        if self.chunked:
            self.body_rcv = Chunks(self.body_rcv.buf, trailer_bytes=self.adj.max_request_header_size)

    def _refuse(self, error: BadRequest | Refusal, taken: int) -> int:
        super().parse_header(b"GET / HTTP/1.0\r\n")  # for what else is read of a request
        self.error = error
        self.completed = True
        return taken


class Chunks(ChunkedReceiver):  # type: ignore[misc]
    """A body in chunks, given to waitress line by line: it takes what other servers read in another way.

    Headers after the last chunk are looked at, and dropped.

    Args:
        buffer: for the body.
        trailer_bytes: most that may follow the last chunk.
    """

    error: BadRequest | None = None

    def __init__(self, buffer: Any, *, trailer_bytes: int) -> None:
        super().__init__(buffer)
        self._trailer_bytes = trailer_bytes
        self._trailer_left = trailer_bytes
        self._line = b""

    def received(self, data: bytes) -> int:
        """Take more of it; how much of it was taken."""
        taken = 0
        while taken < len(data) and not (self.completed or self.error):
            if self.chunk_remainder:
                part = data[taken : taken + self.chunk_remainder]
                super().received(part)
            elif self.validate_chunk_end:
                part = data[taken : taken + len(b"\r\n") - len(self.chunk_end)]
                super().received(part)
            else:
                part = data[taken : data.find(b"\n", taken) + 1 or None]
                self._came(part)
            taken += len(part)
        return len(data) if self.error else taken

    def _came(self, part: bytes) -> None:
        """Take more of a line before a chunk, or behind the last one."""
        line = self._line = self._line + part
        last = self.all_chunks_received
        if last and len(line) > self._trailer_left:
            self.error = BadRequest(f"what follows the last chunk is over the limit of {self._trailer_bytes} bytes")
        elif wrong := validation.wrong_trailer(line) if last else validation.wrong_chunk_line(line):
            self.error = BadRequest(wrong)
        elif line.endswith(b"\n"):
            self._line = b""
            self._trailer_left -= len(line) if last else 0
            if not last or line == b"\r\n":
                super().received(line)
