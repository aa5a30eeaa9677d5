"""What the facade asks of the other services; the only place that falls back from one address to the next."""

import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from common import rpc
from common.errors import AttemptUnknownError, OutcomeUnknownError, PeerError, UnavailableError
from common.wire import (
    PAGE_MESSAGES,
    Append,
    Describe,
    Description,
    Known,
    Lookup,
    Page,
    Read,
    Request,
    Stored,
    Wire,
)
from facade import routing

log = logging.getLogger(__name__)

LOOKUP_S = 0.5  # for one answer of the registry; then its last good answer serves

ReplyType = TypeVar("ReplyType", bound=Wire)


class Client:
    """Asks services by name; may be shared by threads.

    Args:
        transport: carries requests.
        registry: host:port of the registry, asked before every access.
        limits: the time of one request.
        clock, sleep, shuffled: time and chance; a test gives its own.
    """

    def __init__(
        self,
        transport: rpc.Transport,
        registry: str,
        limits: routing.Limits,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        shuffled: Callable[[Sequence[str]], Sequence[str]] = lambda addresses: random.sample(addresses, len(addresses)),
    ) -> None:
        self._transport = transport
        self._registry = registry
        self._limits = limits
        self._clock = clock
        self._sleep = sleep
        self._shuffled = shuffled
        self._last_known: dict[str, tuple[str, ...]] = {}

    def append(self, message_id: str, text: str) -> Stored:
        """Store a message at any logging node; `message_id` makes it safe to try the next one.

        Raises:
            UnavailableError: certainly not stored.
            OutcomeUnknownError: it was sent and no node confirmed it before the deadline.
        """
        failures: list[PeerError] = []
        try:
            stored = self._ask("logging-service", Append(id=message_id, msg=text), Stored, failures)
        except UnavailableError as error:
            if any(isinstance(failure, AttemptUnknownError) for failure in failures):
                raise OutcomeUnknownError(message_id, str(failures[-1])) from error
            raise
        log.info("stored id=%s node=%s", stored.id, stored.node)
        return stored

    def page(self, after: str) -> Page:
        """The messages that follow `after`, from any logging node; raises UnavailableError."""
        return self._ask("logging-service", Read(after=after, limit=PAGE_MESSAGES), Page, [])

    def description(self) -> str:
        """The static text of the messages service; raises UnavailableError."""
        return self._ask("messages-service", Describe(), Description, []).text

    def _ask(self, service: str, request: Request, expect: type[ReplyType], failures: list[PeerError]) -> ReplyType:
        """The first good answer; each failed attempt is appended to `failures` (at most about 100 in 10 s)."""
        steps = routing.plan(lambda: self._lookup(service), self._limits, clock=self._clock, shuffled=self._shuffled)
        for step in steps:
            match step:
                case routing.Wait(seconds=seconds):
                    self._sleep(seconds)
                case routing.Try(address=address, timeout_s=timeout_s):
                    try:
                        return rpc.ask(self._transport, address, request, expect, timeout_s=timeout_s)
                    except PeerError as error:
                        failures.append(error)
                        log.warning("fallback service=%s node=%s reason=%s", service, address, error.reason)
        raise UnavailableError(service, str(failures[-1]) if failures else "it has no address")

    def _lookup(self, service: str) -> tuple[str, ...]:
        """The addresses of a service now, or as the registry last knew them."""
        try:
            known = rpc.ask(self._transport, self._registry, Lookup(name=service), Known, timeout_s=LOOKUP_S)
        except PeerError as error:
            if service not in self._last_known:
                raise UnavailableError(service, f"the registry does not answer ({error})") from error
            log.warning("registry silent, using its last answer service=%s reason=%s", service, error)
        else:
            self._last_known[service] = known.values
        return self._last_known[service]
