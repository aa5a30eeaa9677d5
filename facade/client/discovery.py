"""Looks up who offers a service: a registry is asked before every access."""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from common.codec import Request
from common.errors import PeerError, RefusedError, UnavailableError
from common.wire import Code, Known, Lookup
from facade.client.failure_detector import Suspects
from facade.meter import LookedUp, Meter
from facade.server.scheduler import Scheduler, settle
from facade.timing import Timing

log = structlog.get_logger()

LOOKUP_S = 0.5  # for one answer of one registry; then the next one is asked, or the last good answer serves

Attempt = Callable[[str, Request, type[Known], float], Known]  # one question to an address, for so many seconds


class Discovery:
    """Looks services up.

    Args:
        scheduler: of the requests.
        registries: host:port of each.
        attempt: asks one of them; raises PeerError.
        suspects: addresses that did not answer lately.
        meter: counts the answers.
    """

    def __init__(
        self, scheduler: Scheduler, registries: Sequence[str], attempt: Attempt, suspects: Suspects, meter: Meter
    ) -> None:
        self._scheduler = scheduler
        self._registries = tuple(registries)
        self._attempt = attempt
        self._suspects = suspects
        self._meter = meter
        self._last_known: dict[str, tuple[str, ...]] = {}
        self._asked: dict[str, tuple[int, asyncio.Future[tuple[str, ...]]]] = {}  # by service: in which turn

    def addresses(self, service: str, timing: Timing) -> tuple[str, ...]:
        """The addresses of a service; one question serves all that ask in the same turn of the loop.

        Raises:
            UnavailableError: no registry answers, and none has before.
        """
        with timing.measured("registry"):
            turn, asked = self._asked.get(service, (-1, None))
            if asked and self._scheduler.turning and turn == self._scheduler.turns:
                return self._scheduler.wait(asked, (len(self._registries) + 1) * LOOKUP_S)
            asked = self._scheduler.create_future()
            self._asked[service] = self._scheduler.turns, asked
            settle(asked, lambda: self._lookup(service))
            return asked.result()

    def _lookup(self, service: str) -> tuple[str, ...]:
        """The addresses of a service, from the first registry that answers, or as one of them last knew it.

        Registries that are suspects are asked only when there is no earlier answer: a silent one must not cost
        each request its timeout. While registries have just started, and do not know yet who is in sync, there is
        nobody: an earlier answer may name a replica that was fenced since.
        """
        failure: PeerError | None = None
        starting = False
        for registry in self._registries:
            if registry in self._suspects and service in self._last_known:
                continue
            try:
                known = self._attempt(registry, Lookup(name=service), Known, LOOKUP_S)
            except PeerError as error:
                failure = error
                starting = starting or (isinstance(error, RefusedError) and error.code == Code.STARTING)
                log.warning("registry does not answer", asked_for=service, reason=error)
            else:
                self._last_known[service] = known.values
                self._meter.note_lookup(LookedUp.ANSWERED)
                return known.values
        if starting:
            self._meter.note_lookup(LookedUp.FAILED)
            return ()
        if service not in self._last_known:
            self._meter.note_lookup(LookedUp.FAILED)
            raise UnavailableError(service, f"no registry answers ({failure})") from failure
        self._meter.note_lookup(LookedUp.STALE)
        return self._last_known[service]
