"""New messages as they come, for many clients at once: one question to a node serves them all."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import structlog

from common import ids
from common.errors import ServiceError, UnavailableError
from facade.client.client import Client
from facade.server.scheduler import Event, Scheduler

log = structlog.get_logger()

RETRY_S = 0.05  # after a question that nobody answered
SEEN_MESSAGES = 100_000  # ids that are remembered, in case another node must be asked
WAITING_MESSAGES = 10_000  # for one client that is slow; one more, and it is cut
FOLLOWERS_PER_TURN = 50  # that get a message, 1 to 2 ms of the loop; then other requests have their turn
READY_S = 5.0  # for the first answer


class Heard(NamedTuple):
    """A message that has come, and the node (host:port) that accepted it; "" when it is not known."""

    id: str
    msg: str
    node: str = ""


class Follower:
    """What comes from now on, for one client, of which at most so many messages wait.

    Args:
        changed: an event of its own.
        waiting_messages: the limit.
    """

    def __init__(self, changed: Event, waiting_messages: int = WAITING_MESSAGES) -> None:
        self._limit = waiting_messages
        self._changed = changed
        self._waiting: deque[Heard] = deque()
        self._over = False

    def put(self, entries: Sequence[Heard]) -> None:
        """These have come."""
        if self._over or len(self._waiting) + len(entries) > self._limit:
            self._over = True
        else:
            self._waiting.extend(entries)
        self._changed.set()

    def end(self) -> None:
        """Nothing comes any more."""
        self._over = True
        self._changed.set()

    def take(self, timeout_s: float) -> list[Heard] | None:
        """What has come, after at most `timeout_s`; None at the end: its client is too slow, or the facade stops."""
        self._changed.wait(timeout_s)
        entries = list(self._waiting)
        self._waiting.clear()
        if not self._over:
            self._changed.clear()
        return None if self._over and not entries else entries


class Live:
    """Tells what comes, while there are followers.

    Args:
        scheduler: of the followers.
        client: asks the nodes.
        retry_s: seconds after a question that nobody answered.
        settle_ms: from making an id to its message being read, at most: the deadline of a write, and as much again.
        ready_s: seconds for the first answer.
        now_ms: milliseconds since 1970.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        client: Client,
        *,
        retry_s: float = RETRY_S,
        settle_ms: int = 20_000,
        ready_s: float = READY_S,
        now_ms: Callable[[], int] = ids.now_ms,
    ) -> None:
        self._scheduler = scheduler
        self._client = client
        self._retry_s = retry_s
        self.settle_ms = settle_ms
        self._ready_s = ready_s
        self._now_ms = now_ms
        self._tail: _Tail | None = None
        self._stopped = False

    @contextmanager
    def following(self) -> Iterator[Follower]:
        """All that comes while the block runs; raises UnavailableError when no node answers."""
        follower = Follower(self._scheduler.event())
        if self._tail is None:
            ready, pause = self._scheduler.event(), partial(self._scheduler.sleep, 0.0)
            self._tail = _Tail(self._client, ready, pause, self.settle_ms, self._now_ms)
            self._scheduler.spawn(self._run, self._tail)
        tail = self._tail
        tail.followers.add(follower)
        if self._stopped:
            follower.end()
        try:
            if not tail.ready.wait(self._ready_s):
                raise UnavailableError("logging-service", "no node tells what comes")
            yield follower
        finally:
            tail.followers.discard(follower)
            if not tail.followers and self._tail is tail:
                self._tail = None

    def stop(self) -> None:
        """End all followers, and those that come."""
        self._stopped = True
        for follower in self._tail.followers if self._tail else ():
            follower.end()

    def _run(self, tail: "_Tail") -> None:
        while self._tail is tail:
            try:
                tail.step()  # it waits at the node until there is something
                continue
            except ServiceError as error:
                log.warning("nobody tells what comes", reason=error)
            except Exception:
                log.exception("following broke")  # a defect of ours; without this its followers would wait for ever
            self._scheduler.sleep(self._retry_s)


class _Tail:
    """Asks a node again and again for what its journal got.

    A journal tells in the order in which it got messages, so one that was slower than its neighbour is not missed.
    When another node must be asked, whose journal has another order, what was made in the last `settle_ms` is read by
    id once, and what was told before is left out.
    """

    def __init__(
        self, client: Client, ready: Event, pause: Callable[[], None], settle_ms: int, now_ms: Callable[[], int]
    ) -> None:
        self.followers: set[Follower] = set()
        self.ready = ready
        self._pause = pause
        self._client = client
        self._settle_ms = settle_ms
        self._now_ms = now_ms
        self._journal, self._after, self._node = "", 0, ""
        self._asked_ms = now_ms()
        self._seen: dict[str, int] = {}

    def step(self) -> None:
        """Ask once."""
        asked_ms = self._now_ms()
        tailed = self._client.tail(self._journal, self._after, self._node)
        if self._journal and tailed.journal != self._journal:
            log.info("followers go on with another journal", node=tailed.node)
            self._bridge()
        nodes = tailed.nodes or [""] * len(tailed.entries)
        self._tell([Heard(*entry, node) for entry, node in zip(tailed.entries, nodes, strict=True)])
        self._journal, self._after, self._node, self._asked_ms = tailed.journal, tailed.next, tailed.node, asked_ms
        self.ready.set()

    def _bridge(self) -> None:
        """What came between the last answer of one node and the first one of another."""
        after: str | None = ids.last_id(self._asked_ms - self._settle_ms)
        while after is not None:
            page = self._client.page(after)
            self._tell([Heard(*entry) for entry in page.entries])
            after = page.next

    def _tell(self, entries: Sequence[Heard]) -> None:
        new = [entry for entry in entries if entry.id not in self._seen]
        now_ms = self._now_ms()
        self._seen |= {entry.id: now_ms for entry in new}
        while self._seen and self._is_old(next(iter(self._seen.values())), now_ms):
            del self._seen[next(iter(self._seen))]
        if new:
            for number, follower in enumerate(tuple(self.followers), 1):
                follower.put(new)
                if number % FOLLOWERS_PER_TURN == 0:
                    self._pause()

    def _is_old(self, told_ms: int, now_ms: int) -> bool:
        return told_ms < now_ms - 2 * self._settle_ms or len(self._seen) > SEEN_MESSAGES
