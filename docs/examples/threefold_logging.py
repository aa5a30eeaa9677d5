"""A handler for Python's `logging` that stores records in Threefold. Copy this file: it needs no other library.

    handler = ThreefoldHandler("http://127.0.0.1:5000", fields={"service": "shop"})
    logging.getLogger().addHandler(handler)

Logging never waits for the network: a thread sends the records in batches. It sends a batch again until it is stored or
refused, and keys keep records from being stored twice. At the end of the program it sends what is left.
"""

import atexit
import contextlib
import gzip
import json
import logging
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
        self._fields = dict(fields or {})
        self._batch_records, self._delay_s, self._exit_s = batch_records, delay_s, exit_s
        self._waiting: queue.Queue[dict[str, Any]] = queue.Queue(queue_records)
        self._ends_s: float | None = None  # when the thread gives up; set by `close`
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="threefold-logging", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record; drop it if the queue is full."""
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
            body = gzip.compress(b"".join(json.dumps(one).encode() + b"\n" for one in batch))
            self.dropped += self._send(body, len(batch))

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

    def _send(self, body: bytes, count: int) -> int:
        """Send a batch until it is stored or refused; the number of records that are not stored."""
        pause_s = 0.1
        while True:
            request = urllib.request.Request(self._url, body, self._headers)  # noqa: S310 - the URL is configured
            try:
                urllib.request.urlopen(request, timeout=ANSWER_S).close()  # noqa: S310
            except urllib.error.HTTPError as error:
                if error.code not in AGAIN:
                    return _refused(error, count)
            except OSError:
                pass  # no facade answers
            else:
                return 0
            if self._ends_s is not None and time.monotonic() + pause_s > self._ends_s:
                return count
            time.sleep(pause_s) if self._closing.is_set() else self._closing.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _refused(error: urllib.error.HTTPError, count: int) -> int:
    """How many records of a refused batch are not stored: those with an index in its results, or else all."""
    try:
        results = json.load(error)["results"]
    except (ValueError, KeyError, TypeError):
        return count
    return sum("index" in result for result in results)
