"""Clients that post continuously, and the longest time without an acknowledgement."""

import http.client
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType
from typing import Self

from scripts.client.connection import CLIENT_ERRORS, client


@dataclass(slots=True)
class Writers:
    """Clients that post continuously, each in its own thread, while the `with` block runs.

    Attributes:
        address: host:port of the facade.
        clients: the number of clients.
        name: first part of each text: "name-client-counter".
        pause_s: pause between two posts of one client.
        acknowledged: (monotonic seconds, text) of each post that was answered with 200, in order of the replies.
        failures: a description of each other reply or error.
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
        """Stop posting and wait for the last replies."""
        self.stop()

    def stop(self) -> None:
        """Stop posting and wait for the last replies; may be called before the end of the block."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, count: int, *, timeout_s: float) -> None:
        """Wait until `count` more posts are acknowledged, at most `timeout_s`."""
        wanted, ends_s = len(self.acknowledged) + count, time.monotonic() + timeout_s
        while len(self.acknowledged) < wanted and time.monotonic() < ends_s:
            self._stop.wait(0.005)

    def longest_gap_ms(self, since_s: float = 0.0) -> float:
        """The longest time for which any one client got no acknowledgement, if it ended after `since_s`.

        `since_s` is a time of the monotonic clock.
        """
        by_client: dict[str, list[float]] = {}
        for when, text in self.acknowledged:
            by_client.setdefault(text.rpartition("-")[0], []).append(when)
        return max((1_000 * outage_s(times, since_s) for times in by_client.values()), default=0.0)

    def outage_ms(self, since_s: float = 0.0) -> float:
        """The longest time without any acknowledgement, if it ended after `since_s` (monotonic seconds)."""
        return 1_000 * outage_s(sorted(when for when, _ in self.acknowledged), since_s)

    def _write(self, number: int) -> None:
        with client(self.address) as own:
            counter = 0
            while not self._stop.wait(self.pause_s):
                text = f"{self.name}-{number}-{counter}"
                counter += 1
                try:
                    reply = own.post(text)
                except CLIENT_ERRORS as error:
                    self.failures.append(f"{text}: {error!r}")
                else:
                    if reply.status == http.HTTPStatus.OK:
                        self.acknowledged.append((time.monotonic(), text))
                    else:
                        self.failures.append(f"{text}: {reply.status} {reply.document}")


def outage_s(times_s: Sequence[float], since_s: float = 0.0, until_s: float = float("inf")) -> float:
    """The longest gap between two of `times_s` (ascending) that ended after `since_s` and began before `until_s`."""
    overlapping = times_s[max(0, bisect_right(times_s, since_s) - 1) : bisect_left(times_s, until_s) + 1]
    return max((after - before for before, after in pairwise(overlapping)), default=0.0)
