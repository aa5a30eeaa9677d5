"""A client of a facade's `/v1` API for the command line; each failure is an error of one sentence."""

import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
AGAIN = (408, 429, 500, 502, 503, 504)  # statuses after which `send` tries again

_LINES = {"Content-Type": "application/x-ndjson"}

Message = dict[str, Any]  # id, time, msg, and perhaps fields and node


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

    def send(
        self,
        lines: Sequence[bytes],
        *,
        first: int = 0,
        fields: Mapping[str, str] | None = None,
        retry_s: float = 0.0,
    ) -> list[dict[str, Any]]:
        """Store messages, each a line in UTF-8, in one request.

        Args:
            lines: the messages.
            first: the number of the first one in the whole input.
            fields: of each message.
            retry_s: how long to send the request again after a failure, with a key for each message, so that none is
                stored twice; 0: it is sent once.

        Returns:
            The result of each: its id and time, or, if it was not stored, its `index` (from `first`) and a `message`.

        Raises:
            ApiError: the request is refused, or the last attempt failed.
        """
        errors = {number: reason for number, line in enumerate(lines) if (reason := _why_not_sent(line))}
        with_fields = {"fields": dict(fields)} if fields else {}
        sent = [
            {"msg": line.decode()} | with_fields | ({"key": uuid.uuid4().hex} if retry_s else {})
            for number, line in enumerate(lines)
            if number not in errors
        ]
        results = iter(self._send(b"".join(json.dumps(one).encode() + b"\n" for one in sent), retry_s) if sent else ())
        return [
            {"index": first + number, "message": errors[number]} if number in errors else _at(first + number, results)
            for number in range(len(lines))
        ]

    def _send(self, body: bytes, retry_s: float) -> list[dict[str, Any]]:
        """The results of a batch; with `retry_s`, after as many attempts as it takes."""
        ends_s, pause_s = self._clock() + retry_s, self._pause_s
        while True:
            try:
                reply = self._facades.call("POST", "/v1/messages", body, _LINES, repeatable=retry_s > 0)
            except CLIENT_ERRORS as error:
                failure = f"{self._facades.address}: {error}"
            else:
                if "results" in reply.document and (reply.status not in AGAIN or not retry_s):
                    results: list[dict[str, Any]] = reply.document["results"]
                    return results
                failure = _reason(reply)
                if reply.status not in AGAIN:
                    raise ApiError(failure)
                self._facades.use_next()
            if not retry_s:
                raise ApiError(failure)
            if self._clock() + pause_s > ends_s:
                raise ApiError(f"{failure} (after {retry_s:g} s of attempts)")
            self._sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def page(self, query: dict[str, str]) -> list[Message]:
        """The first messages of a query, at most its `limit`, from as many pages as that takes."""
        found: list[Message] = []
        limit, cursor = int(query["limit"]), query.get("after", "")
        while True:
            left = {"limit": str(limit - len(found)), "after": cursor}
            page = self._good("GET", f"/v1/messages?{urlencode(query | left)}")
            found += page["messages"]
            if page["next"] is None or len(found) == limit:
                return found
            cursor = page["next"]

    def everything(self, query: dict[str, str]) -> Iterator[Message]:
        """Yield all messages of a query as they arrive."""
        try:
            for line in self._facades.lines(f"/v1/messages?{urlencode(query)}", {"Accept": "application/x-ndjson"}):
                if line:  # a search that finds nothing for long sends empty lines
                    yield json.loads(line)
        except CLIENT_ERRORS as error:
            raise ApiError(f"{self._facades.address}: {error}") from error

    def follow(
        self, after: str, search: Mapping[str, str] | None = None, *, shown: Iterable[str] = ()
    ) -> Iterator[Message]:
        """Yield the messages after the id `after`, except those in `shown`, and then new ones as they arrive.

        Args:
            after: a message id.
            search: query parameters that messages must match.
            shown: ids of messages to leave out.

        Raises:
            ApiError: the facade refuses the request, or TRIES attempts to reach it failed.
        """
        path = f"/v1/messages?{urlencode({'after': after, **(search or {})})}"
        repeated = ids.last_id(max(ids.time_ms(after) - AGAIN_MS, 1))
        seen, last, failures = dict.fromkeys(shown), "", 0
        while True:
            reconnected = bool(last)
            headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
            try:
                for line in self._facades.lines(path, headers):
                    failures = 0
                    last = max(last, line.removeprefix("id: ")) if line.startswith("id: ") else last
                    if not line.startswith("data: ") or (message := json.loads(line[6:]))["id"] in seen:
                        continue
                    if not (reconnected and repeated < message["id"] <= after):  # a facade repeats the last ones
                        yield message
                    seen[message["id"]] = None
                    if len(seen) % KNOWN_IDS == 0:
                        oldest = ids.last_id(max(ids.time_ms(last or after) - AGAIN_MS, 1))
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

    def _reply(self, method: str, path: str) -> HttpReply:
        try:
            return self._facades.call(method, path, None, {}, repeatable=True)
        except CLIENT_ERRORS as error:
            raise ApiError(f"{self._facades.address}: {error}") from error


def query(fields: Sequence[str] = (), **given: str | None) -> dict[str, str]:
    """The query parameters that are given; `since` and `until` are named `from` and `to` in a query.

    Args:
        fields: each NAME=VALUE that a field must have.
        given: parameters by name; those that are None are left out.

    Raises:
        ApiError: a field has no value.
    """
    names = {"since": "from", "until": "to"}
    found = {names.get(name, name): value for name, value in given.items() if value is not None}
    return found | {f"field.{name}": value for name, value in field_options(fields).items()}


def field_options(given: Iterable[str]) -> dict[str, str]:
    """Fields by name, each given as NAME=VALUE; raises ApiError if one has another form."""
    found: dict[str, str] = {}
    for field in given:
        name, equals, found[name] = field.partition("=")
        if not (name and equals):
            raise ApiError(f"--field must be NAME=VALUE, not {field}")
    return found


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
