"""A plain HTTP client of the facade on the standard library, used by the demo, the command line and the tests."""

import http.client
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from common.errors import ThreefoldError
from common.hostport import split

TIMEOUT_S = 15.0  # timeout of a request; above the facade's own deadline of 10 s
# What each method of HttpClient may raise: there is no complete reply, the reply is not a JSON object (a proxy may send
# HTML) or the token is not a valid header value (both as ValueError), or the facade answered with an error.
CLIENT_ERRORS = (OSError, http.client.HTTPException, ValueError, ThreefoldError)


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A reply of the facade: HTTP status, headers with names in lower case, and the JSON document."""

    status: int
    headers: dict[str, str]
    document: dict[str, Any]


class HttpStatusError(ThreefoldError):
    """Raised when the facade answers with an error; carries its status, the text has its reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status


class HttpClient:
    """One persistent connection to the facade at host:port; sends `token` as bearer token if it is set.

    With `tls` the connection is encrypted, and the server's certificate is checked.

    Raises:
        CLIENT_ERRORS: from each method.
    """

    def __init__(self, address: str, token: str = "", *, tls: ssl.SSLContext | None = None) -> None:
        host, port = split(address)
        self._connection = (
            http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=tls)
            if tls
            else http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        )
        self._always = {"Authorization": f"Bearer {token}"} if token else {}

    def post(self, text: str, *, key: str | None = None) -> HttpReply:
        """Post one message, with an idempotency key if `key` is set."""
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        return self.call("POST", "/facade", json.dumps({"msg": text}).encode(), headers)

    def read(self) -> list[str]:
        """Read the texts of all messages; raises HttpStatusError if the facade answers with an error."""
        reply = self.call("GET", "/facade")
        if reply.status != http.client.OK:
            raise HttpStatusError(reply.status, str(reply.document.get("message")))
        texts: list[str] = reply.document["logs"]
        return texts

    def connect(self) -> None:
        """Connect, unless there is a connection; raises OSError, after which nothing was sent."""
        if self._connection.sock is None:
            self._connection.connect()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def call(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> HttpReply:
        """Send a request; the reply and its JSON document."""
        try:
            self._connection.request(method, path, body, self._always | (headers or {}))
            response = self._connection.getresponse()
            document = _document(response.read())
        except CLIENT_ERRORS:
            self._connection.close()  # the next call opens a new one
            raise
        return HttpReply(response.status, {name.lower(): value for name, value in response.getheaders()}, document)

    def lines(self, path: str, headers: dict[str, str]) -> Iterator[str]:
        """Yield the lines of a streamed reply as they arrive, without line ends; raises HttpStatusError."""
        try:
            self._connection.request("GET", path, headers=self._always | headers)
            response = self._connection.getresponse()
            if response.status != http.client.OK:
                raise HttpStatusError(response.status, str(_document(response.read()).get("message")))
            while line := response.readline():
                yield line.decode().rstrip("\r\n")
        finally:
            self._connection.close()


def _document(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ValueError(f"the reply is not a JSON object: {body[:80].decode(errors='replace')!r}") from error


@contextmanager
def client(address: str) -> Iterator[HttpClient]:
    """Open a client, and close it at the end of the block."""
    made = HttpClient(address)
    try:
        yield made
    finally:
        made.close()
