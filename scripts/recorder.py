"""Writers and readers that write down what they saw: the history that scripts.checker judges."""

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from scripts.checker import Outcome, Read, Write
from scripts.traffic import HttpClient, client

WRITERS, READERS = 4, 1
READ_PAUSE_S = 0.2  # between two reads of everything


@dataclass(slots=True)
class Recorder:
    """Writers and readers that write down what they saw, from `with` to the end of the block."""

    address: str
    name: str
    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Load while the block runs."""
        threads = [threading.Thread(target=self._write, args=(number,)) for number in range(WRITERS)]
        threads += [threading.Thread(target=self._read_all) for _ in range(READERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def read(self, http_client: HttpClient) -> None:
        """One read of everything, written down."""
        began = time.monotonic()
        texts = http_client.read()
        self.reads.append(Read(texts, began, time.monotonic()))

    def _write(self, number: int) -> None:
        with client(self.address) as own:
            counter = 0
            while not self._stop.is_set():
                text = f"{self.name}{number}-{counter} payload"
                counter += 1
                began = time.monotonic()
                outcome = self._post(own, text)
                ended = time.monotonic()
                self.slowest_s = max(self.slowest_s, ended - began)
                self.writes.append(Write(text, began, ended, outcome))

    def _post(self, own: HttpClient, text: str) -> Outcome:
        try:
            reply = own.post(text)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.errors.append(f"{text}: {error!r}")
            return Outcome.INFO
        if reply.status == http.client.OK:
            return Outcome.OK
        self.errors.append(f"{text}: {reply.status} {reply.document}")
        return Outcome.INFO if "uuid" in reply.document else Outcome.FAIL

    def _read_all(self) -> None:
        with client(self.address) as own:
            while not self._stop.wait(READ_PAUSE_S):
                try:
                    self.read(own)
                except (OSError, http.client.HTTPException, ValueError) as error:
                    self.errors.append(f"read: {error!r}")
