"""waitress' parser of requests with our limits, and without its tolerance: what is not clear is refused."""

from typing import Any

from waitress.parser import HTTPRequestParser, ParsingError
from waitress.receiver import ChunkedReceiver
from waitress.utilities import BadRequest

from common.config import Limits
from facade import strictness
from facade.refusal import Refusal

DEFAULT = Limits()


class Parser(HTTPRequestParser):  # type: ignore[misc]  # waitress ships no types
    """Refuses what is not clear, and a first line of over `url_bytes`."""

    completed = False
    body_rcv: Any
    path = command = ""  # until the first line is read; waitress names the path when the client has left before

    def __init__(self, adjustments: Any, *, url_bytes: int = DEFAULT.url_bytes) -> None:
        super().__init__(adjustments)
        self._url_bytes = url_bytes

    def received(self, data: bytes) -> int:
        """Take more of the request; how much of it was taken."""
        if not (self.completed or self.headers_finished):
            head = (self.header_plus + data).partition(b"\r\n\r\n")[0]
            if unclear := strictness.unclear_begin(head[: self.adj.max_request_header_size]):
                return self._refuse(BadRequest(unclear), len(data))
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
        if unclear := strictness.ambiguity(first_line, [line for line in lines if line]):
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

    Args:
        buffer: for the body.
        trailer_bytes: most that may follow the last chunk.
    """

    error: BadRequest | None = None

    def __init__(self, buffer: Any, *, trailer_bytes: int) -> None:
        super().__init__(buffer)
        self._trailer_bytes = trailer_bytes

    def received(self, data: bytes) -> int:
        """Take more of it; how much of it was taken."""
        taken = 0
        while taken < len(data) and not (self.completed or self.error):
            wrong = None
            if self.chunk_remainder:
                part = data[taken : taken + self.chunk_remainder]
            elif self.validate_chunk_end:
                part = data[taken : taken + len(b"\r\n") - len(self.chunk_end)]
            else:
                part = data[taken : data.find(b"\n", taken) + 1 or None]
                wrong = self._wrong(part)
            if wrong:
                self.error = BadRequest(wrong)
                return len(data)
            taken += int(super().received(part))
        return taken

    def _wrong(self, part: bytes) -> str | None:
        """What is wrong with a line before a chunk or behind the last one, as far as it has come."""
        if self.all_chunks_received:
            return strictness.wrong_trailer(self.trailer + part, self._trailer_bytes)
        return strictness.wrong_chunk_line(self.control_line + part)
