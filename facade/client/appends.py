"""Stores messages at the logging nodes. Messages that several clients post at the same time are sent as one request.

After a failure it is safe to send a message to the next node, because a node ignores a message whose id it already has.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, TypeVar

import structlog

from common.errors import (
    AttemptUnknownError,
    KeyConflictError,
    OutcomeUnknownError,
    PeerError,
    RequestError,
    ServiceError,
    UnavailableError,
)
from common.protocol.codec import Request
from common.protocol.content import Entry, content_bytes
from common.protocol.messages import Append, Appended, WireMessage
from common.telemetry import request_context
from common.telemetry.request_context import RequestContext
from common.telemetry.timing import Timing
from facade.client.batcher import Batcher, InFlightTimeoutError
from facade.client.retry import RetryPolicy
from facade.server.scheduler import Scheduler

log = structlog.get_logger()

BATCH_BYTES = 524_288  # of texts and fields in one request to a node; with ids and keys it stays below REQUEST_BYTES
EXPIRED = "the time of the message is older than what retention has removed"
KEY_CONFLICT = "the idempotency key was sent with another message before"

ReplyType = TypeVar("ReplyType", bound=WireMessage)


class AskService(Protocol):
    """The type of `Client.ask`: sends a request to any node of a service."""

    def __call__(
        self,
        service: str,
        request: Request,
        expect: type[ReplyType],
        *,
        failures: list[PeerError] | None = None,
        policy: RetryPolicy | None = None,
        timing: Timing | None = None,
    ) -> ReplyType:
        """The first good answer; see Client.ask."""


class Acknowledgement(NamedTuple):
    """A message is stored under `id`; `node` (host:port) accepted it, or found it under its key.

    Attributes:
        replayed: the message was already stored under its idempotency key.
    """

    id: str
    node: str
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class _PendingAppend:
    """A message that has waited for its batch since `began_s`, with the context of its client request."""

    entry: Entry
    timing: Timing
    began_s: float
    context: RequestContext

    def leave_queue(self, now_s: float) -> float:
        """Record and return how many seconds the message waited."""
        waited_s = max(now_s - self.began_s, 0.0)
        self.timing.add("queue", waited_s)
        return waited_s


class Appender:
    """Stores messages for all requests of a facade.

    Args:
        scheduler: runs the requests.
        ask: sends a request to a service.
        policy: the time limits of one message, including its wait for a batch.
        clock: seconds from any start.
    """

    def __init__(self, scheduler: Scheduler, ask: AskService, policy: RetryPolicy, clock: Callable[[], float]) -> None:
        self._ask = ask
        self._policy = policy
        self._clock = clock
        self._batcher: Batcher[_PendingAppend, Acknowledgement] = Batcher(
            scheduler, self._send_batch, size=lambda pending: content_bytes(pending.entry), max_bytes=BATCH_BYTES
        )

    def append(self, entry: Entry, timing: Timing) -> Acknowledgement:
        """Store one message; see Client.append. A message with an idempotency key is sent alone."""
        if entry.key:
            return self._append_keyed(entry, timing)
        context = request_context.current() or request_context.from_headers(None, None)
        try:
            return self._batcher.submit(
                _PendingAppend(entry, timing, self._clock(), context), timeout_s=self._policy.deadline_s
            )
        except InFlightTimeoutError as error:
            raise OutcomeUnknownError(entry.id, "its batch was not confirmed before its deadline") from error
        except TimeoutError as error:
            raise UnavailableError("logging-service", "the message was not sent in time") from error

    def append_all(self, entries: Sequence[Entry], timing: Timing) -> Appended:
        """Store messages; see Client.append_all."""
        failures: list[PeerError] = []
        try:
            return self._ask(
                "logging-service", Append(entries=tuple(entries)), Appended, failures=failures, timing=timing
            )
        except UnavailableError as error:
            raise write_error(entries[0].id, failures, error) from error

    def _append_keyed(self, entry: Entry, timing: Timing) -> Acknowledgement:
        appended = self.append_all([entry], timing)
        if appended.conflicts:
            raise KeyConflictError(KEY_CONFLICT)
        if appended.expired:
            raise RequestError(EXPIRED)
        stored_as = next(iter(appended.stored_as), entry.id)
        log.info("stored", node=appended.node, ids=[stored_as])
        return Acknowledgement(stored_as, appended.node, replayed=stored_as != entry.id)

    def _send_batch(self, batch: Sequence[_PendingAppend]) -> Callable[[_PendingAppend], Acknowledgement]:
        """Store the messages of several clients as one request; returns a function that makes each client's result."""
        now_s, timing, failures = self._clock(), Timing(), list[PeerError]()
        policy = self._remaining(min(pending.leave_queue(now_s) for pending in batch))  # the youngest's deadline
        request = Append(
            entries=tuple(pending.entry for pending in batch), contexts=tuple(pending.context for pending in batch)
        )
        outcome: Appended | UnavailableError
        try:
            with request_context.use(batch[0].context):
                outcome = self._ask(
                    "logging-service", request, Appended, failures=failures, policy=policy, timing=timing
                )
        except UnavailableError as error:
            outcome = error
        else:
            _log_stored(outcome.node, batch)

        def result(pending: _PendingAppend) -> Acknowledgement:
            pending.timing.include(timing)
            if isinstance(outcome, UnavailableError):
                raise write_error(pending.entry.id, failures, outcome) from outcome
            if outcome.expired and batch.index(pending) in outcome.expired:
                raise RequestError(EXPIRED)
            return Acknowledgement(pending.entry.id, outcome.node)

        return result

    def _remaining(self, waited_s: float) -> RetryPolicy:
        """The time limits of a request after its wait; they always allow one attempt."""
        left_s = max(self._policy.deadline_s - waited_s, self._policy.attempt_timeout_s)
        return replace(self._policy, deadline_s=left_s)


def _log_stored(node: str, batch: Sequence[_PendingAppend]) -> None:
    """Log one line for all messages of a stored batch."""
    log.info(
        "stored",
        node=node,
        ids=[pending.entry.id for pending in batch],
        request_ids=[pending.context.request_id for pending in batch],
        traceparents=[pending.context.traceparent for pending in batch],
    )


def write_error(message_id: str, failures: Sequence[PeerError], error: UnavailableError) -> ServiceError:
    """The error for a message that no node confirmed; the outcome is unknown if an attempt got no answer."""
    if any(isinstance(failure, AttemptUnknownError) for failure in failures):
        return OutcomeUnknownError(message_id, str(failures[-1]))
    return UnavailableError(error.service, error.reason)
