"""Messages that clients post: those that come at once travel together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import structlog

from common import origin
from common.codec import Request
from common.errors import (
    AttemptUnknownError,
    KeyConflictError,
    OutcomeUnknownError,
    PeerError,
    RefusedError,
    ServiceError,
    UnavailableError,
)
from common.wire import Append, AppendAll, Entry, Stored, StoredAll, Wire, text_bytes
from facade.client.batcher import Batcher
from facade.client.retry import Limits
from facade.server.scheduler import Scheduler
from facade.timing import Timing

log = structlog.get_logger()

CHUNK_BYTES = 524_288  # of text in one message to a node: with ids and lengths below REQUEST_BYTES

ReplyType = TypeVar("ReplyType", bound=Wire)


class Asking(Protocol):
    """How a service is asked; see Client.ask."""

    def __call__(
        self,
        service: str,
        request: Request,
        expect: type[ReplyType],
        *,
        failures: list[PeerError] | None = None,
        limits: Limits | None = None,
        timing: Timing | None = None,
    ) -> ReplyType:
        """The first good answer."""


class Posts:
    """Stores single messages; many of them, of different clients, in one request.

    Args:
        scheduler: of the requests.
        ask: how a service is asked.
        limits: the time of one message, in which its wait for a turn is counted.
        clock: seconds from any start.
    """

    def __init__(self, scheduler: Scheduler, ask: Asking, limits: Limits, clock: Callable[[], float]) -> None:
        self._ask = ask
        self._limits = limits
        self._clock = clock
        self._batcher = Batcher(scheduler, self._together, weight=_Post.weight, most_weight=CHUNK_BYTES)

    def append(self, request: Append, timing: Timing) -> Stored:
        """See Client.append. One with an idempotency key travels alone."""
        post = _Post(request, timing, self._clock(), origin.current() or origin.received(None, None))
        if request.key is not None:
            return self._alone(post)
        try:
            return self._batcher.ask(post, timeout_s=self._limits.deadline_s)
        except TimeoutError as error:
            raise UnavailableError("logging-service", "it had no turn in time, nothing was sent") from error

    def _alone(self, post: "_Post") -> Stored:
        failures: list[PeerError] = []
        limits = self._left(post.leaves(self._clock()))
        try:
            stored = self._ask(
                "logging-service", post.request, Stored, failures=failures, limits=limits, timing=post.timing
            )
        except RefusedError as error:
            raise KeyConflictError("Idempotency-Key was sent with another message before") from error
        except UnavailableError as error:
            raise of_write(post.request.id, failures, error) from error
        _log_stored(stored.node, [post])
        return stored

    def _together(self, posts: "Sequence[_Post]") -> "Callable[[_Post], Stored]":
        """Store what several clients post at once, in the name of the first; how each of them is answered."""
        with origin.of(posts[0].origin):
            if len(posts) > 1:
                return self._as_one(posts)
            stored = self._alone(posts[0])  # raises to the only one that waits
            return lambda _: stored

    def _as_one(self, posts: "Sequence[_Post]") -> "Callable[[_Post], Stored]":
        now_s, timing, failures = self._clock(), Timing(), list[PeerError]()
        limits = self._left(max(post.leaves(now_s) for post in posts))
        together = AppendAll(
            entries=tuple(Entry(post.request.id, post.request.msg) for post in posts),
            origins=tuple(post.origin for post in posts),
        )
        try:
            taken = self._ask("logging-service", together, StoredAll, failures=failures, limits=limits, timing=timing)
        except UnavailableError as error:
            unavailable = error
        else:
            _log_stored(taken.node, posts)

            def succeeded(post: _Post) -> Stored:
                post.timing.take(timing)
                return Stored(id=post.request.id, node=taken.node)

            return succeeded

        def failed(post: _Post) -> Stored:
            post.timing.take(timing)
            raise of_write(post.request.id, failures, unavailable) from unavailable

        return failed

    def _left(self, waited_s: float) -> Limits:
        """What is left of the time of a request that waited for its turn; one attempt in any case."""
        left_s = max(self._limits.deadline_s - waited_s, self._limits.attempt_timeout_s)
        return replace(self._limits, deadline_s=left_s)


@dataclass(frozen=True, slots=True)
class _Post:
    """A message that a client waits for, since `began_s`."""

    request: Append
    timing: Timing
    began_s: float
    origin: origin.Origin

    def weight(self) -> int:
        return text_bytes(self.request.msg)

    def leaves(self, now_s: float) -> float:
        """Its turn has come; the seconds for which it has waited."""
        waited_s = max(now_s - self.began_s, 0.0)
        self.timing.add("queue", waited_s)
        return waited_s


def _log_stored(node: str, posts: "Sequence[_Post]") -> None:
    """One line for all that left together."""
    log.info(
        "stored",
        node=node,
        ids=[post.request.id for post in posts],
        request_ids=[post.origin.request_id for post in posts],
        traceparents=[post.origin.traceparent for post in posts],
    )


def of_write(message_id: str, failures: Sequence[PeerError], error: UnavailableError) -> ServiceError:
    """What is known of a message that no node confirmed: it may be stored when an attempt was sent and not answered."""
    if any(isinstance(failure, AttemptUnknownError) for failure in failures):
        return OutcomeUnknownError(message_id, str(failures[-1]))
    return UnavailableError(error.service, error.reason)
