"""Plain HTTP clients of the facade, on the standard library: what the demo and the tests send and read with."""

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from common.config import split

TIMEOUT_S = 15.0  # for one request; over the facade's own deadline of 10 s


@dataclass(frozen=True, slots=True)
class HttpReply:
    """What the facade answered: HTTP status, headers in lower case, the JSON document."""

    status: int
    headers: dict[str, str]
    document: dict[str, Any]


class HttpStatusError(http.client.HTTPException):
    """Raised when the facade answers with an error: its status, and its reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status


class HttpClient:
    """One kept connection to the facade at host:port, with a bearer token if one is given.

    Raises:
        OSError, http.client.HTTPException: from each call, when there is no whole reply.
    """

    def __init__(self, address: str, token: str = "") -> None:
        self._connection = http.client.HTTPConnection(*split(address), timeout=TIMEOUT_S)
        self._always = {"Authorization": f"Bearer {token}"} if token else {}

    def post(self, text: str, *, key: str | None = None) -> HttpReply:
        """Send one message, with an idempotency key if there is one."""
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        return self.call("POST", "/facade", json.dumps({"msg": text}).encode(), headers)

    def read(self) -> list[str]:
        """All messages; raises HTTPException when the facade answers with an error."""
        reply = self.call("GET", "/facade")
        if reply.status != http.client.OK:
            raise HttpStatusError(reply.status, str(reply.document.get("message")))
        texts: list[str] = reply.document["logs"]
        return texts

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def call(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> HttpReply:
        """One request, and the JSON document that answers it."""
        try:
            self._connection.request(method, path, body, self._always | (headers or {}))
            response = self._connection.getresponse()
            document = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError):
            self._connection.close()  # the next call makes a new one
            raise
        return HttpReply(response.status, {name.lower(): value for name, value in response.getheaders()}, document)

    def lines(self, path: str, headers: dict[str, str]) -> Iterator[str]:
        """The lines of an answer that goes on, as they come, without their ends; raises HTTPException for an error."""
        try:
            self._connection.request("GET", path, headers=self._always | headers)
            response = self._connection.getresponse()
            if response.status != http.client.OK:
                raise HttpStatusError(response.status, str(json.loads(response.read()).get("message")))
            while line := response.readline():
                yield line.decode().rstrip("\r\n")
        finally:
            self._connection.close()


@contextmanager
def client(address: str) -> Iterator[HttpClient]:
    """A client that is closed at the end."""
    made = HttpClient(address)
    try:
        yield made
    finally:
        made.close()
