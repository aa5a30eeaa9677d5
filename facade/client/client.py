"""The client of the other services: sends requests to any node of a service, and falls back to the next on failure."""

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import structlog

from common import ids
from common.errors import (
    DisconnectedError,
    PeerError,
    RefusedError,
    TimedOutError,
    UnavailableError,
    UnreachableError,
)
from common.protocol.codec import Request
from common.protocol.content import Entry
from common.protocol.messages import (
    PAGE_MESSAGES,
    TAIL_S,
    Appended,
    Code,
    Describe,
    Description,
    Page,
    Ping,
    Read,
    State,
    Status,
    Tail,
    Tailed,
    WireMessage,
)
from common.protocol.search import NO_SEARCH, Search
from common.rpc.transport import Transport, ask
from common.telemetry.timing import Timing
from facade.client.appends import Acknowledgement, Appender
from facade.client.discovery import Discovery
from facade.client.failure_detector import FailureDetector
from facade.client.node_statistics import NodeStatistics
from facade.client.retry import Attempt, Pause, RetryPolicy, attempts
from facade.client.session import Session
from facade.server.scheduler import Scheduler

log = structlog.get_logger()

ONE_ROUND = RetryPolicy(attempt_timeout_s=0.5, deadline_s=2.0, rounds=1)  # for answers that a client can do without
TAIL_MARGIN_S = 1.0  # added to the time for which a node holds a Tail request

ReplyType = TypeVar("ReplyType", bound=WireMessage)


class Client:
    """Sends requests to services by name; shared by all requests of a facade.

    Args:
        scheduler: runs the requests.
        transport: carries the requests.
        registries: host:port of each registry; one of them is asked before every access.
        policy: the time limits of one request.
        detector: the failure detector, which is updated after each attempt.
        statistics: counts attempts.
        session: the session vector of this facade.
        clock: seconds from any start.
        shuffled: returns addresses in random order.

    Attributes:
        refusal: why the nodes refuse messages of this facade; "" after an append that they accepted.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        transport: Transport,
        registries: Sequence[str],
        policy: RetryPolicy,
        *,
        detector: FailureDetector,
        statistics: NodeStatistics | None = None,
        session: Session | None = None,
        clock: Callable[[], float] = time.monotonic,
        shuffled: Callable[[Sequence[str]], Sequence[str]] = lambda addresses: random.sample(addresses, len(addresses)),
    ) -> None:
        self.scheduler = scheduler
        self._transport = transport
        self._policy = policy
        self._detector = detector
        self._statistics = statistics or NodeStatistics()
        self._session = session or Session(clock=clock)
        self.refusal = ""
        self._clock = clock
        self._shuffled = shuffled
        self._discovery = Discovery(scheduler, registries, self._try, detector, self._statistics)
        self._appender = Appender(scheduler, self.ask, policy, clock)

    def append(self, entry: Entry, timing: Timing | None = None) -> Acknowledgement:
        """Store a message at any logging node; its id makes it safe to try the next node after a failure.

        A message with an idempotency key is stored under the id of the first message with this key.

        Raises:
            KeyConflictError: the key was used with another message before.
            UnavailableError: the message is certainly not stored.
            OutcomeUnknownError: the message was sent, and no node confirmed it before the deadline.
        """
        return self._appender.append(entry, timing or Timing())

    def append_all(self, entries: Sequence[Entry], timing: Timing | None = None) -> Appended:
        """Store messages at any logging node; a message whose id is already stored is ignored.

        At most PAGE_MESSAGES messages, with at most BATCH_BYTES of texts and fields. The reply names the messages whose
        idempotency key was used with another message before, and the ids under which the others are stored.

        Raises:
            UnavailableError: certainly no message is stored.
            OutcomeUnknownError: no node confirmed the messages; some may be stored, and all may be sent again.
        """
        return self._appender.append_all(entries, timing or Timing())

    def page(
        self,
        after: str,
        *,
        before: str = "",
        limit: int = PAGE_MESSAGES,
        newest_first: bool = False,
        search: Search = NO_SEARCH,
        timing: Timing | None = None,
    ) -> Page:
        """A page of messages between two ids, both exclusive, from any logging node; raises UnavailableError.

        With a `search`, a page may be short, even empty, although `next` continues it: a node scans for a limited time.
        """
        request = Read(
            after=after,
            before=before,
            limit=limit,
            newest_first=newest_first,
            search=search,
            session=self._session.vector(),
        )
        page = self.ask("logging-service", request, Page, timing=timing)
        self._session.caught_up()
        self._session.observe(page.vector)
        return page

    def find(self, message_id: str, timing: Timing | None = None) -> tuple[Entry | None, str]:
        """A message by its id, None if there is none, and the node that answered; raises UnavailableError.

        Asking one node is enough, because a listed node has every acknowledged message.
        """
        page = self.page(ids.previous(message_id), limit=1, timing=timing)
        found = [entry for entry in page.entries if entry.id == message_id]
        return (found[0] if found else None), page.node

    def tail(self, journal: str, after: int, node: str) -> Tailed:
        """The messages that a journal received after the number `after`, as a long poll.

        Asks `node` first. If it does not answer, another node returns the end of its own journal. Returns when there
        are new messages, or after TAIL_S.

        Raises:
            UnavailableError: no node answered.
        """
        policy = replace(self._policy, attempt_timeout_s=TAIL_S + TAIL_MARGIN_S)
        return self.ask("logging-service", Tail(journal=journal, after=after), Tailed, first=node, policy=policy)

    def states(self, *, until_ready: bool) -> Iterator[tuple[str, str]]:
        """The address and state of each logging node, or why it has none; with `until_ready`, stops at a ready node."""
        with contextlib.suppress(UnavailableError):
            for address in self._detector.suspects_last(self._discovery.addresses("logging-service", Timing())):
                try:
                    state = str(self._try(address, Ping(), Status, ONE_ROUND.attempt_timeout_s).state)
                except PeerError as error:
                    state = error.reason
                yield address, state
                if state == State.READY and until_ready:
                    return

    def description(self) -> str:
        """The static text of the messages service. Tries each node once; raises UnavailableError."""
        return self.ask("messages-service", Describe(), Description, policy=ONE_ROUND).text

    def ask(
        self,
        service: str,
        request: Request,
        expect: type[ReplyType],
        *,
        failures: list[PeerError] | None = None,
        policy: RetryPolicy | None = None,
        first: str = "",
        timing: Timing | None = None,
    ) -> ReplyType:
        """The first good answer from any node of a service.

        Args:
            service: the name of the service at the registries.
            request: the request.
            expect: the type of the reply.
            failures: a list to which failed attempts are appended, about 10 per second.
            policy: the time limits, instead of those of this client.
            first: an address that is tried before the others.
            timing: records the durations of this request.

        Raises:
            UnavailableError: no node gave a good answer.
        """
        failures = [] if failures is None else failures
        timing = timing or Timing()
        steps = attempts(
            lambda: self._discovery.addresses(service, timing),
            policy or self._policy,
            clock=self._clock,
            ordered=lambda addresses: self._detector.suspects_last(
                sorted(self._shuffled(addresses), key=lambda address: address != first)
            ),
        )
        for step in steps:
            match step:
                case Pause(seconds=seconds):
                    self.scheduler.sleep(seconds)
                case Attempt():
                    try:
                        return self._attempt(step, request, expect, timing)
                    except PeerError as error:
                        failures.append(error)
                        self._note_refusal(service, error)
                        log.warning("trying the next node", service=service, node=step.address, reason=error.reason)
        raise UnavailableError(service, str(failures[-1]) if failures else "it has no address")

    def _attempt(self, attempt: Attempt, request: Request, expect: type[ReplyType], timing: Timing) -> ReplyType:
        """The reply to one attempt, which is counted and timed; raises PeerError."""
        began_s = timing.clock()
        try:
            with timing.measured("node"):
                reply = self._try(attempt.address, request, expect, attempt.timeout_s)
        except PeerError as error:
            self._statistics.record(attempt.address, timing.clock() - began_s, error.kind)
            raise
        if not isinstance(request, Tail):  # the wait of a long poll is not latency
            self._statistics.record(attempt.address, timing.clock() - began_s)
        timing.add("store", getattr(reply, "took_ms", 0.0) / 1_000)
        if isinstance(reply, Appended):
            self.refusal = ""
            self._session.observe(reply.vector)
        return reply

    def _note_refusal(self, service: str, error: PeerError) -> None:
        """Handle a refusal whose cause is the state of this facade: its session, or its clock.

        Raises:
            UnavailableError: no node will accept the request, because the clock of this facade is ahead.
        """
        if not isinstance(error, RefusedError):
            return
        if error.code == Code.BEHIND:
            self._session.behind(error.address)
        elif error.code == Code.AHEAD:
            self.refusal = error.reason
            raise UnavailableError(service, error.reason) from error

    def _try(self, address: str, request: Request, expect: type[ReplyType], timeout_s: float) -> ReplyType:
        """Make one attempt, and tell the failure detector whether the address answered; raises PeerError."""
        try:
            reply = ask(self._transport, address, request, expect, timeout_s=timeout_s)
        except (UnreachableError, TimedOutError, DisconnectedError):
            if self._detector.suspect(address):
                log.warning("address is suspected", node=address)
            raise
        self._detector.clear(address)
        return reply
