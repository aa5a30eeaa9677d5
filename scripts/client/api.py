"""`/v1` of a facade, for the command line: what it answers, or one sentence about why not."""

import http.client
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from common import ids
from common.errors import FatalError
from scripts.client.connection import HttpClient, HttpReply, HttpStatusError

BATCH_MESSAGES = 1_000  # in one request: 100 kB of log lines
TRIES, PAUSE_S = 20, 0.5  # to reach a facade again while following: 10 s, as long as it may take to be restarted
KNOWN_IDS = 10_000  # that were followed, between two times that old ones are forgotten
AGAIN_MS = 60_000  # before its last message a client that comes back is told nothing again: it is 20 s by default
IDLE_S = 60.0  # then the connection is made anew: the facade closes it after 120 s

Message = dict[str, Any]  # id, time, msg


class ApiError(FatalError):
    """Raised when the facade cannot be reached, or says no: the text is its reason."""


class Api:
    """A facade at a URL, over one connection, with a bearer token if one is given; `pause_s` between two tries."""

    def __init__(self, url: str, token: str = "", *, pause_s: float = PAUSE_S) -> None:
        self._pause_s = pause_s
        self.address = _address(url)
        self._http = HttpClient(self.address, token)
        self._used_s = time.monotonic()

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

    def follow(self, after: str, *, shown: Iterable[str] = ()) -> Iterator[Message]:
        """What follows the message of that id, but what is shown already, and then all that comes.

        Raises:
            ApiError: the facade refuses it, or could not be reached again in TRIES tries.
        """
        told, last, failures = dict.fromkeys(shown), "", 0
        while True:
            headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
            try:
                for line in self._http.lines(f"/v1/messages?{urlencode({'after': after})}", headers):
                    failures = 0
                    if not line.startswith("data: ") or (message := json.loads(line[6:]))["id"] in told:
                        continue
                    if message["id"] > after or not last:  # what comes again after a break reaches further back
                        yield message
                    last = max(last, message["id"])
                    told[message["id"]] = None
                    if len(told) % KNOWN_IDS == 0:
                        oldest = ids.last_id(ids.time_ms(last) - AGAIN_MS)
                        told = dict.fromkeys(one for one in told if one > oldest)
            except (OSError, http.client.HTTPException, ValueError) as error:
                failures += 1
                definite = isinstance(error, HttpStatusError) and error.status < http.client.INTERNAL_SERVER_ERROR
                if definite or failures == TRIES:
                    raise ApiError(f"{self.address}: {error}") from error
            time.sleep(self._pause_s)

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

    def _reply(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> HttpReply:
        if time.monotonic() - self._used_s > IDLE_S:
            self._http.close()
        self._used_s = time.monotonic()
        try:
            return self._http.call(method, path, body, headers)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ApiError(f"{self.address}: {error}") from error


def _address(url: str) -> str:
    """host:port of `http://HOST:PORT`."""
    parts = urlsplit(url if "//" in url else f"http://{url}")
    try:
        port = parts.port or 80
    except ValueError:  # over 65,535
        port = 0
    if parts.scheme != "http" or not parts.hostname or not port or parts.path.rstrip("/") not in ("", "/facade"):
        raise ApiError(f"--url must be http://HOST:PORT, not {url}")
    return f"{parts.hostname}:{port}"


def query(**given: str | None) -> dict[str, str]:
    """The parameters that are given; `since` and `until` are called `from` and `to` in a query."""
    names = {"since": "from", "until": "to"}
    return {names.get(name, name): value for name, value in given.items() if value is not None}


def batched(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """So many at a time as go into one request."""
    for begin in range(0, len(texts), BATCH_MESSAGES):
        yield texts[begin : begin + BATCH_MESSAGES]


def _reason(reply: HttpReply) -> str:
    return f"{reply.status}: {reply.document.get('message', 'the facade does not say why')}"
