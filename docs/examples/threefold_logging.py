"""A handler for Python's `logging` that stores records in Threefold. Copy this file: it needs no other library.

    handler = ThreefoldHandler("http://127.0.0.1:5000", fields={"service": "shop"})
    logging.getLogger().addHandler(handler)

Logging never waits for the network: a thread sends the records in batches. It sends a batch again until it is stored or
refused, and keys keep records from being stored twice within a day. At the end of the program it sends what is left. A
process that was forked has a queue and a thread of its own.
"""

import atexit
import contextlib
import gzip
import http.client
import json
import logging
import os
import queue
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

AGAIN = (408, 429, 500, 502, 503, 504)  # statuses after which a batch is sent again
LONGEST_PAUSE_S = 10.0  # between two attempts
ANSWER_S = 15.0  # timeout of a request; a facade answers within 10 s
TOO_LARGE = (400, 413)  # statuses after which a batch without results is halved
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}  # what each record has


class ThreefoldHandler(logging.Handler):
    """Stores log records as messages with the fields `level`, `logger`, `logged` (time), and those in `extra`.

    Args:
        url: a facade, such as `http://127.0.0.1:5000`.
        token: a bearer token; "" for none.
        fields: of every message: text, numbers and booleans.
        queue_records: limit on the records that wait; one more is dropped and counted.
        batch_records: limit on the records of one request.
        delay_s: seconds for which the first record of a batch waits for others.
        exit_s: seconds for which `close`, and so the end of the program, waits for what is left.

    Attributes:
        dropped: records that were not stored: the queue was full, the facade refused them, or `exit_s` was over.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        fields: Mapping[str, str | float] | None = None,
        queue_records: int = 10_000,
        batch_records: int = 500,
        delay_s: float = 0.2,
        exit_s: float = 10.0,
    ) -> None:
        super().__init__()
        self.dropped = 0
        self._url = f"{url.rstrip('/')}/v1/messages"
        self._headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
        self._headers |= {"Authorization": f"Bearer {token}"} if token else {}
        self._fields = json.loads(json.dumps(dict(fields or {})))  # a value that JSON does not have is an error here
        self._batch_records, self._delay_s, self._exit_s = batch_records, delay_s, exit_s
        self._queue_records = queue_records
        self._open = urllib.request.build_opener(_NoRedirect()).open  # a redirected POST would become a GET
        self._begin()
        atexit.register(self.close)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        """Start with an empty queue, and a thread that sends it."""
        self.dropped = 0
        self._waiting: queue.Queue[dict[str, Any]] = queue.Queue(self._queue_records)
        self._ends_s: float | None = None  # when the thread gives up; set by `close`
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="threefold-logging", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record; drop it if the queue is full, or after `close`."""
        if self._closing.is_set():
            self.dropped += 1
            return
        try:
            self._waiting.put_nowait(self._message(record))
        except queue.Full:
            self.dropped += 1
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Send what is left, for at most `exit_s`, and end the thread."""
        if not self._closing.is_set():
            self._ends_s = time.monotonic() + self._exit_s
            self._closing.set()
            self._thread.join(self._exit_s + ANSWER_S)
            self.dropped += self._waiting.qsize()
            atexit.unregister(self.close)
            if self.dropped:
                print(f"{self.dropped} log records were not stored at {self._url}", file=sys.stderr)  # noqa: T201
        super().close()

    def _message(self, record: logging.LogRecord) -> dict[str, Any]:
        extra = {
            name: value if isinstance(value, str | int | float) else str(value)
            for name, value in vars(record).items()
            if name not in _USUAL and value is not None
        }
        logged = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        own = {"level": record.levelname.lower(), "logger": record.name, "logged": logged}
        return {"msg": self.format(record) or "-", "key": uuid.uuid4().hex, "fields": {**self._fields, **extra, **own}}

    def _run(self) -> None:
        while batch := self._next_batch():
            try:
                self.dropped += self._store(batch)
            except Exception:  # logging must go on, whatever happened to one batch
                self.dropped += len(batch)

    def _next_batch(self) -> list[dict[str, Any]]:
        """The next records; none when this handler was closed and nothing is left."""
        batch: list[dict[str, Any]] = []
        while not batch and not (self._closing.is_set() and self._waiting.empty()):
            with contextlib.suppress(queue.Empty):
                batch.append(self._waiting.get(timeout=0.1))
        if batch:
            self._closing.wait(self._delay_s)
        with contextlib.suppress(queue.Empty):
            while batch and len(batch) < self._batch_records:
                batch.append(self._waiting.get_nowait())
        return batch

    def _store(self, batch: list[dict[str, Any]]) -> int:
        """Send a batch until it is stored or refused; the number of records that are not stored."""
        body = gzip.compress(b"".join(json.dumps(one).encode() + b"\n" for one in batch))
        pause_s = 0.1
        while True:
            request = urllib.request.Request(self._url, body, self._headers)  # noqa: S310 - the URL is configured
            try:
                self._open(request, timeout=ANSWER_S).close()
            except urllib.error.HTTPError as error:
                if error.code not in AGAIN:
                    return self._refused(error, batch)
            except (OSError, http.client.HTTPException):
                pass  # no facade answers
            else:
                return 0
            if self._ends_s is not None and time.monotonic() + pause_s > self._ends_s:
                return len(batch)
            time.sleep(pause_s) if self._closing.is_set() else self._closing.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _refused(self, error: urllib.error.HTTPError, batch: list[dict[str, Any]]) -> int:
        """How many records of a refused batch are not stored: those with an index in its results, or else all."""
        try:
            return sum("index" in result for result in json.load(error)["results"])
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            if error.code not in TOO_LARGE or len(batch) == 1:
                return len(batch)
        middle = len(batch) // 2
        return self._store(batch[:middle]) + self._store(batch[middle:])


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments: Any) -> None:
        """Follow no redirect: its status is then an error."""
