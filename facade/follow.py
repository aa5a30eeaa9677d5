"""New messages as they come, for many clients at once: one question to a node serves them all."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from common import ids
from common.errors import ServiceError, UnavailableError
from common.wire import Entry
from facade.client import Client

log = logging.getLogger(__name__)

EVERY_S = 0.05  # between two questions; one costs a node, which asks the two others, about 2 ms
SETTLE_MS = 20_000  # from making an id to its message being read: the deadline of a write, and as much again
SEEN_MESSAGES = 100_000  # ids of the last SETTLE_MS that are remembered, in case another node must be asked
WAITING_MESSAGES = 10_000  # for one client that is slow; one more, and it is cut
READY_S = 5.0  # for the first answer


class Follower:
    """What comes from now on, for one client, of which at most so many messages wait."""

    def __init__(self, waiting_messages: int = WAITING_MESSAGES) -> None:
        self._limit = waiting_messages
        self._changed = threading.Condition()
        self._waiting: deque[Entry] = deque()
        self._over = False

    def put(self, entries: Sequence[Entry]) -> None:
        """These have come."""
        with self._changed:
            if len(self._waiting) + len(entries) > self._limit:
                self._over = True
            else:
                self._waiting.extend(entries)
            self._changed.notify()

    def end(self) -> None:
        """Nothing comes any more."""
        with self._changed:
            self._over = True
            self._changed.notify()

    def take(self, timeout_s: float) -> list[Entry] | None:
        """What has come, after at most `timeout_s`; None at the end: its client is too slow, or the facade stops."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._over, timeout_s)
            entries = list(self._waiting)
            self._waiting.clear()
            return None if self._over and not entries else entries


class Live:
    """Asks a node again and again for what its journal got, while there are followers.

    A journal tells in the order in which it got messages, so one that was slower than its neighbour is not missed.
    When another node must be asked, whose journal has another order, the last SETTLE_MS are read by id once, and what
    was told before is left out.

    Args:
        client: asks the nodes.
        every_s: seconds between two questions.
        ready_s: seconds for the first answer.
        now_ms: milliseconds since 1970.
    """

    def __init__(
        self,
        client: Client,
        *,
        every_s: float = EVERY_S,
        ready_s: float = READY_S,
        now_ms: Callable[[], int] = ids.now_ms,
    ) -> None:
        self._client = client
        self._every_s = every_s
        self._ready_s = ready_s
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self._followers: set[Follower] = set()
        self._ready = threading.Event()
        self._stopped = False
        self._forget()

    @contextmanager
    def following(self) -> Iterator[Follower]:
        """All that comes while the block runs; raises UnavailableError when no node answers."""
        follower = Follower()
        with self._lock:
            if not self._followers:
                self._forget()
                threading.Thread(target=self._run, args=(self._ready,), daemon=True).start()
            self._followers.add(follower)
            ready = self._ready
            if self._stopped:
                follower.end()
        try:
            if not ready.wait(self._ready_s):
                raise UnavailableError("logging-service", "no node tells what comes")
            yield follower
        finally:
            with self._lock:
                self._followers.discard(follower)

    def stop(self) -> None:
        """End all followers, and those that come."""
        with self._lock:
            self._stopped = True
            for follower in self._followers:
                follower.end()

    def _forget(self) -> None:
        self._ready = threading.Event()
        self._journal, self._after, self._node = "", 0, ""
        self._asked_ms = self._now_ms()
        self._seen: dict[str, int] = {}

    def _run(self, ready: threading.Event) -> None:
        while self._wanted(ready):
            try:
                while self._step():
                    ready.set()
            except ServiceError as error:
                log.warning("nobody tells what comes reason=%s", error)
            time.sleep(self._every_s)

    def _wanted(self, ready: threading.Event) -> bool:
        with self._lock:
            return bool(self._followers) and ready is self._ready

    def _step(self) -> bool:
        """Ask once; whether there may be more already."""
        asked_ms = self._now_ms()
        tailed = self._client.tail(self._journal, self._after, self._node)
        moved = tailed.journal != self._journal
        if moved and self._journal:
            log.info("followers go on with another journal node=%s", tailed.node)
            self._bridge()
        self._tell(tailed.entries)
        self._journal, self._after, self._node, self._asked_ms = tailed.journal, tailed.next, tailed.node, asked_ms
        self._ready.set()
        return tailed.more

    def _bridge(self) -> None:
        """What came between the last answer of one node and the first one of another."""
        after: str | None = ids.last_id(self._asked_ms - SETTLE_MS)
        while after is not None:
            page = self._client.page(after)
            self._tell(page.entries)
            after = page.next

    def _tell(self, entries: Sequence[Entry]) -> None:
        new = [entry for entry in entries if entry.id not in self._seen]
        now_ms = self._now_ms()
        self._seen |= {entry.id: now_ms for entry in new}
        while self._seen and self._is_old(next(iter(self._seen.values())), now_ms):
            del self._seen[next(iter(self._seen))]
        if new:
            with self._lock:
                followers = tuple(self._followers)
            for follower in followers:
                follower.put(new)

    def _is_old(self, told_ms: int, now_ms: int) -> bool:
        return told_ms < now_ms - 2 * SETTLE_MS or len(self._seen) > SEEN_MESSAGES
