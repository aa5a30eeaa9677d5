"""A client of a facade's `/v1` API for the command line; each failure is an error of one sentence."""

import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from common import batches, ids
from scripts.client.connection import CLIENT_ERRORS, HttpReply, HttpStatusError
from scripts.client.facades import ApiError, Facades

BATCH_MESSAGES = 1_000  # limit of one request: 100 kB of log lines
BATCH_BYTES = 1_048_576  # the same in bytes; as JSON at most six times as long, and below the facade's 10 MiB
LINE_BYTES = 262_144  # four times the longest message: a longer line is not sent
TRIES, PAUSE_S = 20, 0.5  # reconnects of `follow`: 10 s, as long as a restart of the facade may take
KNOWN_IDS = 10_000  # ids between two removals of old ones from the set of ids that `follow` has seen
AGAIN_MS = 60_000  # age of ids that are removed: after a reconnect a facade repeats 20 s by default
LONGEST_PAUSE_S = 5.0  # between two attempts of `send`
AGAIN = (429, 500, 502, 503, 504)  # statuses after which `send` tries again

Message = dict[str, Any]  # id, time, msg


class Api:
    """The `/v1` API of one or more facades.

    Args:
        urls: the URL of a facade, or of each of several; see `Facades`.
        token: a bearer token; "" for none.
        ca_file: certificates for https; see `Facades`.
        pause_s: seconds between reconnects of `follow`, and at first between attempts of `send`.
        sleep, clock: wait some seconds, and seconds from any start.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        token: str = "",
        *,
        ca_file: Path | None = None,
        pause_s: float = PAUSE_S,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pause_s = pause_s
        self._sleep = sleep
        self._clock = clock
        self._facades = Facades([urls] if isinstance(urls, str) else urls, token, ca_file=ca_file)

    def close(self) -> None:
        """Close the connections."""
        self._facades.close()

    def send(self, lines: Sequence[bytes], *, first: int = 0, retry_s: float = 0.0) -> list[dict[str, Any]]:
        """Store messages, each a line in UTF-8.

        Args:
            lines: the messages.
            first: the number of the first one in the whole input.
            retry_s: how long to try again to store a message, each alone and with a key, so that none is stored twice;
                0: all are sent once, in one request.

        Returns:
            The result of each: its id and time, or, if it was not stored, its `index` (from `first`) and a `message`.
        """
        errors = {number: reason for number, line in enumerate(lines) if (reason := _why_not_sent(line))}
        texts = [line.decode() for number, line in enumerate(lines) if number not in errors]
        sent = [self._send_with_key(text, retry_s) for text in texts] if retry_s else self._send(texts)
        results = iter(sent)
        return [
            {"index": first + number, "message": errors[number]} if number in errors else _at(first + number, results)
            for number in range(len(lines))
        ]

    def _send(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        if not texts:
            return []
        body = b"".join(json.dumps({"msg": text}).encode() + b"\n" for text in texts)
        reply = self._reply("POST", "/v1/messages", body, {"Content-Type": "application/x-ndjson"})
        if "results" not in reply.document:
            raise ApiError(_reason(reply))
        results: list[dict[str, Any]] = reply.document["results"]
        return results

    def _send_with_key(self, text: str, retry_s: float) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "Idempotency-Key": uuid.uuid4().hex}
        body = json.dumps({"msg": text}).encode()
        ends_s, pause_s = self._clock() + retry_s, self._pause_s
        while True:
            try:
                reply = self._facades.call("POST", "/v1/messages", body, headers, repeatable=True)
            except CLIENT_ERRORS as error:
                failure = f"{self._facades.address}: {error}"
            else:
                if reply.status == HTTPStatus.CREATED:
                    return reply.document
                if reply.status not in AGAIN:
                    return {"message": _reason(reply)}
                failure = _reason(reply)
                self._facades.use_next()
            if self._clock() + pause_s > ends_s:
                raise ApiError(f"{failure} (after {retry_s:g} s of attempts)")
            self._sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def page(self, query: dict[str, str]) -> list[Message]:
        """The messages of one page of a query."""
        messages: list[Message] = self._good("GET", f"/v1/messages?{urlencode(query)}")["messages"]
        return messages

    def everything(self, query: dict[str, str]) -> Iterator[Message]:
        """Yield all messages of a query as they arrive."""
        try:
            for line in self._facades.lines(f"/v1/messages?{urlencode(query)}", {"Accept": "application/x-ndjson"}):
                yield json.loads(line)
        except CLIENT_ERRORS as error:
            raise ApiError(f"{self._facades.address}: {error}") from error

    def follow(self, after: str, *, shown: Iterable[str] = ()) -> Iterator[Message]:
        """Yield the messages after the id `after`, except those in `shown`, and then new ones as they arrive.

        Raises:
            ApiError: the facade refuses the request, or TRIES attempts to reach it failed.
        """
        seen, last, failures = dict.fromkeys(shown), "", 0
        while True:
            reconnected = bool(last)
            headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
            try:
                for line in self._facades.lines(f"/v1/messages?{urlencode({'after': after})}", headers):
                    failures = 0
                    if not line.startswith("data: ") or (message := json.loads(line[6:]))["id"] in seen:
                        continue
                    if message["id"] > after or not reconnected:  # after a reconnect the facade repeats older ones
                        yield message
                    last = max(last, message["id"])
                    seen[message["id"]] = None
                    if len(seen) % KNOWN_IDS == 0:
                        oldest = ids.last_id(ids.time_ms(last) - AGAIN_MS)
                        seen = dict.fromkeys(one for one in seen if one > oldest)
            except CLIENT_ERRORS as error:
                failures += 1
                definite = isinstance(error, HttpStatusError) and error.status < HTTPStatus.INTERNAL_SERVER_ERROR
                if definite or failures == TRIES:
                    raise ApiError(f"{self._facades.address}: {error}") from error
                self._facades.use_next()
            self._sleep(self._pause_s)

    def get(self, message_id: str) -> Message:
        """The message with an id."""
        return self._good("GET", f"/v1/messages/{quote(message_id, safe='')}")

    def cluster(self) -> dict[str, Any]:
        """The state of the cluster."""
        return self._good("GET", "/v1/cluster")

    def _good(self, method: str, path: str) -> dict[str, Any]:
        reply = self._reply(method, path)
        if reply.status != HTTPStatus.OK:
            raise ApiError(_reason(reply))
        return reply.document

    def _reply(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> HttpReply:
        try:
            return self._facades.call(method, path, body, headers or {}, repeatable=method == "GET")
        except CLIENT_ERRORS as error:
            raise ApiError(f"{self._facades.address}: {error}") from error


def query(**given: str | None) -> dict[str, str]:
    """The query parameters that are not None; `since` and `until` are named `from` and `to` in a query."""
    names = {"since": "from", "until": "to"}
    return {names.get(name, name): value for name, value in given.items() if value is not None}


def batched(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield the lines in batches of at most BATCH_MESSAGES and BATCH_BYTES."""
    return batches.batched(lines, len, max_bytes=BATCH_BYTES, max_items=BATCH_MESSAGES)


def _why_not_sent(line: bytes) -> str:
    """Why a line cannot be a message; "" if it can, as far as this client knows."""
    if len(line) >= LINE_BYTES:
        return f"the line has {LINE_BYTES} bytes or more, which is over any limit of a message"
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return f"the line is not valid UTF-8: {error.reason} at {error.start}"
    return ""


def _at(number: int, results: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """The next result of the facade, with the number of its message in the whole input."""
    result = next(results)
    return result | {"index": number} if "message" in result else result


def _reason(reply: HttpReply) -> str:
    return f"{reply.status}: {reply.document.get('message', 'the facade gave no reason')}"
