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
    Append,
    AppendAll,
    Code,
    Describe,
    Description,
    Entry,
    Known,
    Lookup,
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
from facade import routing
from facade.meter import LookedUp, Meter
from facade.posts import Posts, of_write
from facade.timing import Timing

log = structlog.get_logger()

ONE_ROUND = routing.Limits(attempt_timeout_s=0.5, deadline_s=2.0, rounds=1)  # for what a reader can do without
LOOKUP_S = 0.5  # for one answer of one registry; then the next one is asked, or the last good answer serves

ReplyType = TypeVar("ReplyType", bound=Wire)


class Client:
    """Asks services by name; may be shared by threads.

    Args:
        transport: carries requests.
        registries: host:port of each registry; one of them is asked before every access.
        limits: the time of one request.
        suspects: addresses that did not answer lately; `facade.prober` clears them.
        meter: counts what nodes answered.
        clock, sleep, shuffled: time and chance; a test gives its own.
    """

    def __init__(
        self,
        transport: rpc.Transport,
        registries: Sequence[str],
        limits: routing.Limits,
        *,
        suspects: routing.Suspects,
        meter: Meter | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        shuffled: Callable[[Sequence[str]], Sequence[str]] = lambda addresses: random.sample(addresses, len(addresses)),
    ) -> None:
        self._transport = transport
        self._registries = tuple(registries)
        self._limits = limits
        self._suspects = suspects
        self._meter = meter or Meter()
        self._clock = clock
        self._sleep = sleep
        self._shuffled = shuffled
        self._last_known: dict[str, tuple[str, ...]] = {}
        self._posts = Posts(self.ask, limits, clock)

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
        request = Read(after=after, before=before, limit=limit, newest_first=newest_first)
        return self.ask("logging-service", request, Page, timing=timing)

    def find(self, message_id: str, timing: Timing | None = None) -> tuple[Entry | None, str]:
        """One message, and the node that had it; None when a second node, if one is listed, has confirmed the miss.

        Raises:
            UnavailableError: not enough nodes answered.
        """
        request = Read(after=ids.previous(message_id), limit=1)
        page = self.ask("logging-service", request, Page, timing=timing)
        others = set(self._last_known["logging-service"]) - {page.node}
        if not _has(page, message_id) and others:
            limits = replace(self._limits, rounds=1)
            page = self.ask("logging-service", request, Page, avoid=page.node, limits=limits, timing=timing)
        return (page.entries[0] if _has(page, message_id) else None), page.node

    def tail(self, journal: str, after: int, node: str) -> Tailed:
        """What a journal got after a number, from `node` if it answers, else where that of another one ends now.

        Raises:
            UnavailableError: no node answered.
        """
        return self.ask("logging-service", Tail(journal=journal, after=after), Tailed, first=node)

    def states(self, *, all_of_them: bool) -> Iterator[tuple[str, str]]:
        """What logging nodes say they can do, or why not, one after the other; up to one that is ready, or of all."""
        with contextlib.suppress(UnavailableError):
            for address in self._suspects.last(self._lookup("logging-service", Timing())):
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
        limits: routing.Limits | None = None,
        first: str = "",
        avoid: str = "",
        timing: Timing | None = None,
    ) -> ReplyType:
        """The first good answer; each failed attempt is appended to `failures` (about 10 a second).

        The address `first` is tried before the others, `avoid` not at all.
        """
        failures = [] if failures is None else failures
        timing = timing or Timing()
        steps = routing.plan(
            lambda: [address for address in self._lookup(service, timing) if address != avoid],
            limits or self._limits,
            clock=self._clock,
            ordered=lambda addresses: self._suspects.last(
                sorted(self._shuffled(addresses), key=lambda address: address != first)
            ),
        )
        for step in steps:
            match step:
                case routing.Wait(seconds=seconds):
                    self._sleep(seconds)
                case routing.Try(address=address, timeout_s=timeout_s):
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
                        log.warning("fallback", asked_for=service, node=address, reason=error.reason)
                    else:
                        if not isinstance(request, Tail):  # it is asked again and again while somebody follows
                            self._meter.note(address, timing.clock() - began)
                        timing.add("store", getattr(reply, "took_ms", 0.0) / 1_000)
                        return reply
        raise UnavailableError(service, str(failures[-1]) if failures else "it has no address")

    def _lookup(self, service: str, timing: Timing) -> tuple[str, ...]:
        """The addresses of a service, from the first registry that answers, or as one of them last knew it.

        Registries that are suspects are asked only when there is no earlier answer: a silent one must not cost
        each request its timeout.
        """
        failure: PeerError | None = None
        for registry in self._registries:
            if registry in self._suspects and service in self._last_known:
                continue
            try:
                with timing.measured("registry"):
                    known = self._try(registry, Lookup(name=service), Known, LOOKUP_S)
            except PeerError as error:
                failure = error
                log.warning("registry silent", asked_for=service, reason=error)
            else:
                self._last_known[service] = known.values
                self._meter.note_lookup(LookedUp.ANSWERED)
                return known.values
        if service not in self._last_known:
            self._meter.note_lookup(LookedUp.FAILED)
            raise UnavailableError(service, f"no registry answers ({failure})") from failure
        self._meter.note_lookup(LookedUp.STALE)
        return self._last_known[service]

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


def _has(page: Page, message_id: str) -> bool:
    return [message_id] == [entry.id for entry in page.entries]
