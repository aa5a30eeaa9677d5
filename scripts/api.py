"""`/v1` of a facade, for the command line: what it answers, or one sentence about why not."""

import http.client
import json
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from common.errors import FatalError
from scripts.traffic import HttpClient, Reply

BATCH_MESSAGES = 1_000  # in one request: 100 kB of log lines
TRIES, PAUSE_S = 20, 0.5  # to reach a facade again while following: 10 s, as long as it may take to be restarted
KNOWN_IDS = 10_000  # of the last messages that were followed, so that none is shown twice

Message = dict[str, Any]  # id, time, msg


class ApiError(FatalError):
    """Raised when the facade cannot be reached, or says no: the text is its reason."""


class Api:
    """A facade at a URL, over one connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        if parts.scheme != "http" or not parts.hostname or parts.path.rstrip("/") not in ("", "/facade"):
            raise ApiError(f"--url must be http://HOST:PORT, not {url}")
        self.address = f"{parts.hostname}:{parts.port or 80}"
        self._http = HttpClient(self.address)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def send(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Store messages; what became of each: its id and time, and a `message` when it is not stored."""
        body = b"".join(json.dumps({"msg": text}).encode() + b"\n" for text in texts)
        reply = self._reply("POST", "/v1/messages", body, {"Content-Type": "application/x-ndjson"})
        if "results" not in reply.document:
            raise ApiError(_reason(reply))
        results: list[dict[str, Any]] = reply.document["results"]
        return results

    def page(self, query: dict[str, str]) -> list[Message]:
        """The messages of one page."""
        messages: list[Message] = self._good("GET", f"/v1/messages?{urlencode(query)}")["messages"]
        return messages

    def everything(self, query: dict[str, str]) -> Iterator[Message]:
        """The messages of all pages, as they come."""
        try:
            for line in self._http.lines(f"/v1/messages?{urlencode(query)}", {"Accept": "application/x-ndjson"}):
                yield json.loads(line)
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(f"{self.address}: {error}") from error

    def follow(self, after: str) -> Iterator[Message]:
        """What follows the message of that id, if any, and then all that comes, through restarts of the facade.

        Raises:
            ApiError: the facade could not be reached again.
        """
        last, failures = "", 0
        told: deque[str] = deque(maxlen=KNOWN_IDS)
        while True:
            headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
            try:
                for line in self._http.lines(f"/v1/messages?{urlencode({'after': after})}", headers):
                    failures = 0
                    if not line.startswith("data: "):
                        continue
                    message = json.loads(line[6:])
                    if message["id"] not in told and (message["id"] > after or not last):
                        last = max(last, message["id"])
                        told.append(message["id"])
                        yield message
            except (OSError, http.client.HTTPException) as error:
                failures += 1
                if failures == TRIES:
                    raise ApiError(f"{self.address}: {error}") from error
            time.sleep(PAUSE_S)

    def get(self, message_id: str) -> Message:
        """One message."""
        return self._good("GET", f"/v1/messages/{quote(message_id, safe='')}")

    def cluster(self) -> dict[str, Any]:
        """How the cluster is."""
        return self._good("GET", "/v1/cluster")

    def _good(self, method: str, path: str) -> dict[str, Any]:
        reply = self._reply(method, path)
        if reply.status != http.client.OK:
            raise ApiError(_reason(reply))
        return reply.document

    def _reply(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Reply:
        try:
            return self._http.call(method, path, body, headers)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ApiError(f"{self.address}: {error}") from error


def query(**given: str | None) -> dict[str, str]:
    """The parameters that are given; `since` and `until` are called `from` and `to` in a query."""
    names = {"since": "from", "until": "to"}
    return {names.get(name, name): value for name, value in given.items() if value is not None}


def batched(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """So many at a time as go into one request."""
    for begin in range(0, len(texts), BATCH_MESSAGES):
        yield texts[begin : begin + BATCH_MESSAGES]


def _reason(reply: Reply) -> str:
    return f"{reply.status}: {reply.document.get('message', 'the facade does not say why')}"
