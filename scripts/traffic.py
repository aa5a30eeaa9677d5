"""Plain HTTP clients of the facade, on the standard library: what the demo and the tests send and read with."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from common.config import split
from scripts.checker import outage_s

TIMEOUT_S = 15.0  # for one request; over the facade's own deadline of 10 s


@dataclass(frozen=True, slots=True)
class Reply:
    """What the facade answered: HTTP status, headers in lower case, the JSON document."""

    status: int
    headers: dict[str, str]
    document: dict[str, Any]


class RefusedError(http.client.HTTPException):
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

    def post(self, text: str, *, key: str | None = None) -> Reply:
        """Send one message, with an idempotency key if there is one."""
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        return self.call("POST", "/facade", json.dumps({"msg": text}).encode(), headers)

    def read(self) -> list[str]:
        """All messages; raises HTTPException when the facade answers with an error."""
        reply = self.call("GET", "/facade")
        if reply.status != http.client.OK:
            raise RefusedError(reply.status, str(reply.document.get("message")))
        texts: list[str] = reply.document["logs"]
        return texts

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def call(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Reply:
        """One request, and the JSON document that answers it."""
        try:
            self._connection.request(method, path, body, self._always | (headers or {}))
            response = self._connection.getresponse()
            document = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError):
            self._connection.close()  # the next call makes a new one
            raise
        return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, document)

    def lines(self, path: str, headers: dict[str, str]) -> Iterator[str]:
        """The lines of an answer that goes on, as they come, without their ends; raises HTTPException for an error."""
        try:
            self._connection.request("GET", path, headers=self._always | headers)
            response = self._connection.getresponse()
            if response.status != http.client.OK:
                raise RefusedError(response.status, str(json.loads(response.read()).get("message")))
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


@dataclass(slots=True)
class Writers:
    """Clients that post without pause, each in its own thread, from `with` to the end of the block.

    Attributes:
        address: host:port of the facade.
        clients: how many.
        name: begins each text: "name-client-counter".
        pause_s: between two posts of one client.
        acknowledged: (monotonic seconds, text) of each post that was answered with 200, in order of the answers.
        failures: what else came back.
    """

    address: str
    clients: int
    name: str
    pause_s: float = 0.0
    acknowledged: list[tuple[float, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        """Start posting."""
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        """Stop posting and wait for the last answers."""
        self.stop()

    def stop(self) -> None:
        """The same, before the end of the block."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, count: int, *, timeout_s: float) -> None:
        """Return when `count` more posts are acknowledged, or after `timeout_s`."""
        wanted, ends = len(self.acknowledged) + count, time.monotonic() + timeout_s
        while len(self.acknowledged) < wanted and time.monotonic() < ends:
            self._stop.wait(0.005)

    def longest_gap_ms(self, since: float = 0.0) -> float:
        """The longest time that any one client was without an acknowledgement, if it ended after `since`.

        `since` is in monotonic seconds.
        """
        by_client: dict[str, list[float]] = {}
        for when, text in self.acknowledged:
            by_client.setdefault(text.rpartition("-")[0], []).append(when)
        return max((1_000 * outage_s(times, since) for times in by_client.values()), default=0.0)

    def outage_ms(self, since: float = 0.0) -> float:
        """The longest time in which no client was acknowledged, if it ended after `since` (monotonic seconds)."""
        return 1_000 * outage_s(sorted(when for when, _ in self.acknowledged), since)

    def _write(self, number: int) -> None:
        with client(self.address) as own:
            counter = 0
            while not self._stop.wait(self.pause_s):
                text = f"{self.name}-{number}-{counter}"
                counter += 1
                try:
                    reply = own.post(text)
                except (OSError, http.client.HTTPException, ValueError) as error:
                    self.failures.append(f"{text}: {error!r}")
                else:
                    if reply.status == http.HTTPStatus.OK:
                        self.acknowledged.append((time.monotonic(), text))
                    else:
                        self.failures.append(f"{text}: {reply.status} {reply.document}")
