"""What the facade asks of the other services; the only place that falls back from one address to the next."""

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import structlog

from common import ids, rpc
from common.codec import Request
from common.errors import (
    DisconnectedError,
    PeerError,
    RefusedError,
    TimedOutError,
    UnavailableError,
    UnreachableError,
)
from common.wire import (
    PAGE_MESSAGES,
    TAIL_S,
    Append,
    AppendAll,
    Code,
    Describe,
    Description,
    Entry,
    Page,
    Ping,
    Read,
    State,
    Status,
    Stored,
    StoredAll,
    Tail,
    Tailed,
    Wire,
)
from facade.client import retry
from facade.client.discovery import Discovery
from facade.client.failure_detector import Suspects
from facade.client.posts import Posts, of_write
from facade.client.session import Session
from facade.meter import Meter
from facade.server.scheduler import Scheduler
from facade.timing import Timing

log = structlog.get_logger()

ONE_ROUND = retry.Limits(attempt_timeout_s=0.5, deadline_s=2.0, rounds=1)  # for what a reader can do without
TAIL_MORE_S = 1.0  # beside the time for which a node keeps a Tail waiting

ReplyType = TypeVar("ReplyType", bound=Wire)


class Client:
    """Asks services by name, for all requests of a facade.

    Args:
        scheduler: of the requests.
        transport: carries requests.
        registries: host:port of each registry; one of them is asked before every access.
        limits: the time of one request.
        suspects: addresses that did not answer lately; `facade.client.failure_detector` clears them.
        meter: counts what nodes answered.
        session: what this facade has seen.
        clock, shuffled: time and chance; a test gives its own.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        transport: rpc.Transport,
        registries: Sequence[str],
        limits: retry.Limits,
        *,
        suspects: Suspects,
        meter: Meter | None = None,
        session: Session | None = None,
        clock: Callable[[], float] = time.monotonic,
        shuffled: Callable[[Sequence[str]], Sequence[str]] = lambda addresses: random.sample(addresses, len(addresses)),
    ) -> None:
        self.scheduler = scheduler
        self._transport = transport
        self._registries = tuple(registries)
        self._limits = limits
        self._suspects = suspects
        self._meter = meter or Meter()
        self._session = session or Session(clock=clock)
        self.refused = ""  # why the nodes do not take what this facade sends, since the last append that they took
        self._clock = clock
        self._shuffled = shuffled
        self._discovery = Discovery(scheduler, registries, self._try, suspects, self._meter)
        self._posts = Posts(scheduler, self.ask, limits, clock)

    def append(self, message_id: str, text: str, key: str | None = None, timing: Timing | None = None) -> Stored:
        """Store a message at any logging node; `message_id` makes it safe to try the next one.

        With an idempotency `key` it is stored under the id with which that key came first.

        Raises:
            KeyConflictError: the key came with another text before.
            UnavailableError: certainly not stored.
            OutcomeUnknownError: it was sent and no node confirmed it before the deadline.
        """
        return self._posts.append(Append(id=message_id, msg=text, key=key), timing or Timing())

    def append_all(self, entries: Sequence[Entry], timing: Timing | None = None) -> StoredAll:
        """Store messages that have ids, at any logging node; what is there already stays as it is.

        At most PAGE_MESSAGES, and so many bytes that the request is below REQUEST_BYTES.

        Raises:
            UnavailableError: certainly none is stored.
            OutcomeUnknownError: no node confirmed it; some may be stored, and all may be sent again.
        """
        failures: list[PeerError] = []
        request = AppendAll(entries=tuple(entries))
        try:
            return self.ask("logging-service", request, StoredAll, failures=failures, timing=timing)
        except UnavailableError as error:
            raise of_write(entries[0].id, failures, error) from error

    def page(
        self,
        after: str,
        *,
        before: str = "",
        limit: int = PAGE_MESSAGES,
        newest_first: bool = False,
        timing: Timing | None = None,
    ) -> Page:
        """Messages between two ids, from any logging node; raises UnavailableError."""
        request = Read(
            after=after, before=before, limit=limit, newest_first=newest_first, session=self._session.vector()
        )
        page = self.ask("logging-service", request, Page, timing=timing)
        self._session.covered()
        self._session.saw(page.vector)
        return page

    def find(self, message_id: str, timing: Timing | None = None) -> tuple[Entry | None, str]:
        """One message, or None, and the node that was asked: a listed one has everything; raises UnavailableError."""
        page = self.page(ids.previous(message_id), limit=1, timing=timing)
        found = [entry for entry in page.entries if entry.id == message_id]
        return (found[0] if found else None), page.node

    def tail(self, journal: str, after: int, node: str) -> Tailed:
        """What a journal got after a number, from `node` if it answers, else where that of another one ends now.

        Returns when there is something, or after TAIL_S.

        Raises:
            UnavailableError: no node answered.
        """
        limits = replace(self._limits, attempt_timeout_s=TAIL_S + TAIL_MORE_S)
        return self.ask("logging-service", Tail(journal=journal, after=after), Tailed, first=node, limits=limits)

    def states(self, *, all_of_them: bool) -> Iterator[tuple[str, str]]:
        """What logging nodes say they can do, or why not, one after the other; up to one that is ready, or of all."""
        with contextlib.suppress(UnavailableError):
            for address in self._suspects.last(self._discovery.addresses("logging-service", Timing())):
                try:
                    state = str(self._try(address, Ping(), Status, ONE_ROUND.attempt_timeout_s).state)
                except PeerError as error:
                    state = error.reason
                yield address, state
                if state == State.READY and not all_of_them:
                    return

    def description(self) -> str:
        """The static text of the messages service, without a second round; raises UnavailableError."""
        return self.ask("messages-service", Describe(), Description, limits=ONE_ROUND).text

    def ask(
        self,
        service: str,
        request: Request,
        expect: type[ReplyType],
        *,
        failures: list[PeerError] | None = None,
        limits: retry.Limits | None = None,
        first: str = "",
        timing: Timing | None = None,
    ) -> ReplyType:
        """The first good answer; each failed attempt is appended to `failures` (about 10 a second).

        The address `first` is tried before the others.
        """
        failures = [] if failures is None else failures
        timing = timing or Timing()
        steps = retry.plan(
            lambda: self._discovery.addresses(service, timing),
            limits or self._limits,
            clock=self._clock,
            ordered=lambda addresses: self._suspects.last(
                sorted(self._shuffled(addresses), key=lambda address: address != first)
            ),
        )
        for step in steps:
            match step:
                case retry.Wait(seconds=seconds):
                    self.scheduler.sleep(seconds)
                case retry.Try(address=address, timeout_s=timeout_s):
                    began = timing.clock()
                    try:
                        with timing.measured("node"):
                            reply = self._try(address, request, expect, timeout_s)
                    except PeerError as error:
                        if isinstance(error, RefusedError) and error.code == Code.CONFLICT:
                            self._meter.note(address, timing.clock() - began)
                            raise  # no other node would do otherwise
                        self._meter.note(address, timing.clock() - began, error.kind)
                        failures.append(error)
                        self._note_refusal(service, error)
                        log.warning("fallback", asked_for=service, node=address, reason=error.reason)
                    else:
                        if not isinstance(request, Tail):  # it is asked again and again while somebody follows
                            self._meter.note(address, timing.clock() - began)
                        self._note_answer(reply, timing)
                        return reply
        raise UnavailableError(service, str(failures[-1]) if failures else "it has no address")

    def _note_answer(self, reply: Wire, timing: Timing) -> None:
        """Take note of what a good answer says."""
        timing.add("store", getattr(reply, "took_ms", 0.0) / 1_000)
        if isinstance(reply, Stored | StoredAll):
            self.refused = ""
            self._session.saw([(reply.origin, reply.sequence)])

    def _note_refusal(self, service: str, error: PeerError) -> None:
        """Take note of what a refusal says about this facade.

        Raises:
            UnavailableError: no node will take the request: the clock of this facade is ahead.
        """
        if not isinstance(error, RefusedError):
            return
        if error.code == Code.BEHIND:
            self._session.behind(error.address)
        elif error.code == Code.AHEAD:
            self.refused = error.reason
            raise UnavailableError(service, error.reason) from error

    def _try(self, address: str, request: Request, expect: type[ReplyType], timeout_s: float) -> ReplyType:
        """One attempt; who gives no answer at all becomes a suspect, who answers is none any more."""
        try:
            reply = rpc.ask(self._transport, address, request, expect, timeout_s=timeout_s)
        except (UnreachableError, TimedOutError, DisconnectedError):
            if self._suspects.add(address):
                log.warning("suspect", node=address)
            raise
        self._suspects.clear(address)
        return reply
