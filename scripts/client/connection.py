"""An HTTP client of one facade, used by the demo, the command line and the tests."""

import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec
from urllib3 import BaseHTTPResponse, PoolManager, exceptions

from common.errors import ThreefoldError

TIMEOUT_S = 15.0  # timeout of a request; above the facade's own deadline of 10 s
PART_BYTES = 65_536  # limit of one read of a streamed reply
# What each method of HttpClient may raise: there is no complete reply (as ThreefoldError or OSError), the reply is not
# a JSON object (a proxy may send HTML) or the token is not a valid header value (both as ValueError), or the facade
# answered with an error (HttpStatusError).
CLIENT_ERRORS = (OSError, ValueError, ThreefoldError)


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A reply of the facade: HTTP status, headers with names in lower case, and the JSON document."""

    status: int
    headers: dict[str, str]
    document: dict[str, Any]


class NotConnectedError(ThreefoldError):
    """Raised when no connection can be made, so that nothing was sent; the text is the reason."""


class BrokenConnectionError(ThreefoldError):
    """Raised when a connection ends before the reply is complete; the text is the reason."""


class HttpStatusError(ThreefoldError):
    """Raised when the facade answers with an error; carries its status, the text has its reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status


class HttpClient:
    """One persistent connection to the facade at host:port; sends `token` as bearer token if it is set.

    With `tls` the connection is encrypted, and the server's certificate is checked. An idle connection that the facade
    has closed is replaced by a new one.

    Raises:
        CLIENT_ERRORS: from each method.
    """

    def __init__(self, address: str, token: str = "", *, tls: ssl.SSLContext | None = None) -> None:
        self._root = f"{'https' if tls else 'http'}://{address}"
        self._pools = PoolManager(1, maxsize=1, timeout=TIMEOUT_S, retries=False, ssl_context=tls)
        self._always = {"Authorization": f"Bearer {token}"} if token else {}

    def post(self, text: str, *, key: str | None = None) -> HttpReply:
        """Post one message, with an idempotency key if `key` is set."""
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        return self.call("POST", "/facade", json.dumps({"msg": text}).encode(), headers)

    def read(self) -> list[str]:
        """Read the texts of all messages; raises HttpStatusError if the facade answers with an error."""
        reply = self.call("GET", "/facade")
        if reply.status != HTTPStatus.OK:
            raise HttpStatusError(reply.status, str(reply.document.get("message")))
        texts: list[str] = reply.document["logs"]
        return texts

    def close(self) -> None:
        """Close the connection; the next call opens another one."""
        self._pools.clear()

    def call(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> HttpReply:
        """Send a request; the reply and its JSON document."""
        with _own_errors():
            response = self._open(method, path, body, headers or {})
            names = {name.lower(): value for name, value in response.headers.items()}
            return HttpReply(response.status, names, _document(response.data))

    def lines(self, path: str, headers: Mapping[str, str]) -> Iterator[str]:
        """Yield the lines of a streamed reply as they arrive, without line ends; raises HttpStatusError."""
        with _own_errors():
            response = self._open("GET", path, None, headers)
            try:
                if response.status != HTTPStatus.OK:
                    raise HttpStatusError(response.status, str(_document(response.data).get("message")))
                rest = b""
                while part := response.read1(PART_BYTES):
                    *lines, rest = (rest + part).split(b"\n")
                    for line in lines:
                        yield line.decode().removesuffix("\r")
                if rest:
                    yield rest.decode()
            finally:
                response.close()

    def _open(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> BaseHTTPResponse:
        everything = self._always | dict(headers)
        return self._pools.urlopen(
            method, self._root + path, body=body, headers=everything, preload_content=False, redirect=False
        )


@contextmanager
def _own_errors() -> Iterator[None]:
    """Turn the errors of urllib3 into NotConnectedError and BrokenConnectionError, with a text for people."""
    try:
        yield
    except (exceptions.NewConnectionError, exceptions.ConnectTimeoutError) as error:
        raise NotConnectedError(str(error.__cause__ or error)) from error
    except exceptions.ReadTimeoutError as error:
        raise BrokenConnectionError(f"there was no reply within {TIMEOUT_S:g} s") from error
    except exceptions.HTTPError as error:
        raise BrokenConnectionError(str(error.args[-1] if error.args else error)) from error


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
