"""Keeps the status of the cluster up to date, and remembers its events."""

import time
from collections import deque
from collections.abc import Callable

import msgspec
import structlog

from facade.server.scheduler import Event
from facade.server.single_flight import SingleFlight
from facade.status.collector import StatusCollector
from facade.status.events import changes
from facade.status.schema import ClusterStatus, StatusEvent

log = structlog.get_logger()

EVENTS = 200  # most events that are remembered
INTERVAL_S = 1.0  # between two collections if no request asks
MAX_AGE_S = 0.5  # of the status in a response; a collection takes up to 0.4 s


class StatusMonitor:
    """The status of the cluster, shared by the requests of a facade.

    Args:
        collector: collects the status.
        clock: seconds from any start.
    """

    def __init__(self, collector: StatusCollector, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._collector = collector
        self.request_rate = collector.request_rate
        self._events: deque[StatusEvent] = deque(maxlen=EVENTS)
        self._last: ClusterStatus | None = None
        self._collection = SingleFlight(collector.scheduler, self._collect, clock=clock)

    def status(self, *, max_age_s: float = MAX_AGE_S) -> ClusterStatus:
        """The status with the latest events, at most `max_age_s` old."""
        return self._collection.get(max_age=max_age_s)

    def run(self, stop: Event) -> None:
        """Collect every INTERVAL_S until `stop` is set; for a greenlet of its own."""
        while not stop.wait(INTERVAL_S):
            try:
                self.status()
            except Exception:
                log.exception("collecting the status failed")  # a defect of ours; the next collection may succeed

    def _collect(self) -> ClusterStatus:
        status = self._collector.collect()
        if self._last:
            self._events.extendleft(changes(self._last, status))
        self._last = status
        return msgspec.structs.replace(status, events=list(self._events))
