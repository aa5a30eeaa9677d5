"""Looks up the addresses of services: a registry is asked before every access."""

from collections.abc import Callable, Sequence
from functools import partial

import structlog

from common.discovery import lookup
from common.discovery.lookup import ANSWER_S, RegistryLookup
from common.errors import PeerError, UnavailableError
from common.protocol.codec import Request
from common.protocol.messages import Lookup, LookupResult
from common.telemetry.timing import Timing
from facade.client.failure_detector import FailureDetector
from facade.client.node_statistics import NodeStatistics
from facade.server.scheduler import Scheduler
from facade.server.single_flight import SingleFlight

log = structlog.get_logger()

# One request to an address, with the expected type of its reply and a timeout in seconds; raises PeerError.
Attempt = Callable[[str, Request, type[LookupResult], float], LookupResult]


class Discovery:
    """Looks up services for all requests of a facade.

    Args:
        scheduler: runs the requests.
        registries: host:port of each registry.
        attempt: sends one request to one registry.
        detector: the failure detector; suspected registries are skipped while an earlier answer can be used.
        statistics: counts the lookups.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        registries: Sequence[str],
        attempt: Attempt,
        detector: FailureDetector,
        statistics: NodeStatistics,
    ) -> None:
        self._scheduler = scheduler
        self._lookup = RegistryLookup(registries)
        self._attempt = attempt
        self._detector = detector
        self._statistics = statistics
        self._lookups: dict[str, SingleFlight[tuple[str, ...]]] = {}

    def addresses(self, service: str, timing: Timing) -> tuple[str, ...]:
        """The addresses of a service; requests that ask in the same turn of the loop share one lookup.

        Raises:
            UnavailableError: no registry answers, and no earlier answer is known.
        """
        if service not in self._lookups:
            self._lookups[service] = SingleFlight(
                self._scheduler, partial(self._look_up, service), clock=lambda: self._scheduler.turns
            )
        same_turn = 0 if self._scheduler.turning else -1  # outside of the loop there are no turns
        with timing.measured("registry"):
            return self._lookups[service].get(max_age=same_turn)

    def _look_up(self, service: str) -> tuple[str, ...]:
        try:
            steps = self._lookup.steps(service, self._detector)
            found = lookup.run(steps, partial(self._ask, service))
        except UnavailableError:
            self._statistics.record_lookup(lookup.LookupOutcome.FAILED)
            raise
        self._statistics.record_lookup(found.outcome)
        return found.values

    def _ask(self, service: str, registry: str) -> LookupResult:
        try:
            return self._attempt(registry, Lookup(name=service), LookupResult, ANSWER_S)
        except PeerError as error:
            log.warning("registry does not answer", service=service, registry=registry, reason=error.reason)
            raise
