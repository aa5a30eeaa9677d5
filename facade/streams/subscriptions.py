"""Subscriptions to new messages: one long poll at a node serves all subscribed clients."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import structlog

from common import ids
from common.errors import ServiceError, UnavailableError
from common.protocol.content import Entry, content_bytes
from facade.client.client import Client
from facade.server.scheduler import Event, Scheduler

log = structlog.get_logger()

RETRY_S = 0.05  # pause after a long poll that no node answered
SEEN_MESSAGES = 100_000  # limit on the remembered ids of delivered messages, for a change of node
BACKLOG_MESSAGES = 10_000  # limit for one slow client; one more ends its subscription
BACKLOG_BYTES = 8_388_608  # the same in bytes of texts and fields
TAKEN_BYTES = 262_144  # of texts and fields that a client takes at once, or one larger message
DELIVERIES_PER_TURN = 50  # 1 to 2 ms of work; then other requests run
READY_TIMEOUT_S = 5.0  # for the first answer from a node


class Subscription:
    """The backlog of new messages of one client.

    Args:
        changed: an event that only this subscription uses.
        backlog_messages: limit on the messages in the backlog; one more ends the subscription.
        backlog_bytes: the same for the bytes of their texts and fields.
    """

    def __init__(
        self, changed: Event, backlog_messages: int = BACKLOG_MESSAGES, backlog_bytes: int = BACKLOG_BYTES
    ) -> None:
        self._limit = backlog_messages
        self._limit_bytes = backlog_bytes
        self._bytes = 0
        self._changed = changed
        self._backlog: deque[Entry] = deque()
        self._ended = False

    def put(self, messages: Sequence[Entry]) -> None:
        """Add new messages to the backlog; end the subscription if they exceed its limit."""
        size = sum(map(content_bytes, messages))
        if self._ended or len(self._backlog) + len(messages) > self._limit or self._bytes + size > self._limit_bytes:
            self._ended = True
        else:
            self._backlog.extend(messages)
            self._bytes += size
        self._changed.set()

    def end(self) -> None:
        """End the subscription: accept no further messages, and wake the client."""
        self._ended = True
        self._changed.set()

    def take(self, timeout_s: float) -> list[Entry] | None:
        """Wait at most `timeout_s` for new messages, and take about TAKEN_BYTES. None if the subscription has ended."""
        self._changed.wait(timeout_s)
        messages: list[Entry] = []
        taken_bytes = 0
        while self._backlog and taken_bytes < TAKEN_BYTES:
            messages.append(self._backlog.popleft())
            taken_bytes += content_bytes(messages[-1])
        self._bytes -= taken_bytes
        if not self._ended and not self._backlog:
            self._changed.clear()
        return None if self._ended and not messages else messages


class Subscriptions:
    """Delivers new messages to all subscriptions; polls a node only while there are subscriptions.

    Args:
        scheduler: runs the subscribed requests.
        client: sends the long polls to the nodes.
        retry_s: seconds after a long poll that no node answered.
        max_store_ms: milliseconds within which a message can be read after its id was made: twice the deadline of a
            write.
        ready_timeout_s: seconds for the first answer from a node.
        now_ms: milliseconds since 1970.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        client: Client,
        *,
        retry_s: float = RETRY_S,
        max_store_ms: int = 20_000,
        ready_timeout_s: float = READY_TIMEOUT_S,
        now_ms: Callable[[], int] = ids.now_ms,
    ) -> None:
        self._scheduler = scheduler
        self._client = client
        self._retry_s = retry_s
        self.max_store_ms = max_store_ms
        self._ready_timeout_s = ready_timeout_s
        self._now_ms = now_ms
        self._follower: JournalFollower | None = None
        self._stopped = False

    @contextmanager
    def subscribed(self) -> Iterator[Subscription]:
        """Subscribe for the duration of the block; raises UnavailableError if no node answers."""
        subscription = Subscription(self._scheduler.event())
        if self._follower is None:
            ready, pause = self._scheduler.event(), partial(self._scheduler.sleep, 0.0)
            self._follower = JournalFollower(self._client, ready, pause, self.max_store_ms, self._now_ms)
            self._scheduler.spawn(self._run, self._follower)
        follower = self._follower
        follower.subscriptions.add(subscription)
        if self._stopped:
            subscription.end()
        try:
            if not follower.ready.wait(self._ready_timeout_s):
                raise UnavailableError("logging-service", "no node delivers new messages")
            yield subscription
        finally:
            follower.subscriptions.discard(subscription)
            if not follower.subscriptions and self._follower is follower:
                self._follower = None

    def stop(self) -> None:
        """End all subscriptions, including later ones."""
        self._stopped = True
        for subscription in self._follower.subscriptions if self._follower else ():
            subscription.end()

    def _run(self, follower: "JournalFollower") -> None:
        """Poll until the follower has no more subscriptions."""
        while self._follower is follower:
            try:
                follower.poll()
                continue
            except ServiceError as error:
                log.warning("no node delivers new messages", reason=error)
            except Exception:
                log.exception("unexpected exception while following")  # a defect of ours; the next poll may succeed
            self._scheduler.sleep(self._retry_s)


class JournalFollower:
    """Polls the journal of a node for the messages that it received after a number.

    A journal numbers messages in the order in which it received them, so that a message that was stored late is not
    missed. The journal of another node has another order. When the follower has to switch to it, it reads the messages
    of the last `max_store_ms` once by id, and skips those that it has already delivered.

    Args:
        client: sends the long polls to the nodes.
        ready: set after the first answer.
        pause: called between deliveries, so that other requests can run.
        max_store_ms, now_ms: as in Subscriptions.
    """

    def __init__(
        self, client: Client, ready: Event, pause: Callable[[], None], max_store_ms: int, now_ms: Callable[[], int]
    ) -> None:
        self.subscriptions: set[Subscription] = set()
        self.ready = ready
        self._pause = pause
        self._client = client
        self._max_store_ms = max_store_ms
        self._now_ms = now_ms
        self._journal, self._after, self._node = "", 0, ""
        self._polled_ms = now_ms()
        self._seen: dict[str, int] = {}

    def poll(self) -> None:
        """Poll once, and deliver the new messages; raises ServiceError."""
        polled_ms = self._now_ms()
        tailed = self._client.tail(self._journal, self._after, self._node)
        if self._journal and tailed.journal != self._journal:
            log.info("following another journal", node=tailed.node)
            self._read_gap()
        self.deliver(tailed.entries)
        self._journal, self._after, self._node, self._polled_ms = tailed.journal, tailed.next, tailed.node, polled_ms
        self.ready.set()

    def _read_gap(self) -> None:
        """Deliver the messages that were stored between the last answer of one node and the first of another."""
        after: str | None = ids.last_id(self._polled_ms - self._max_store_ms)
        while after is not None:
            page = self._client.page(after)
            self.deliver(page.entries)
            after = page.next

    def deliver(self, messages: Sequence[Entry]) -> None:
        """Put the messages that were not delivered before into all subscriptions."""
        new = [message for message in messages if message.id not in self._seen]
        now_ms = self._now_ms()
        self._seen |= {message.id: now_ms for message in new}
        while self._seen and self._is_forgotten(next(iter(self._seen.values())), now_ms):
            del self._seen[next(iter(self._seen))]
        if new:
            for number, subscription in enumerate(tuple(self.subscriptions), 1):
                subscription.put(new)
                if number % DELIVERIES_PER_TURN == 0:
                    self._pause()

    def _is_forgotten(self, delivered_ms: int, now_ms: int) -> bool:
        """True if the oldest remembered id is too old, or if too many are remembered."""
        return delivered_ms < now_ms - 2 * self._max_store_ms or len(self._seen) > SEEN_MESSAGES
