"""The Prometheus metrics of a facade."""

from collections.abc import Callable, Iterator
from functools import cache

import prometheus_client
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from common.telemetry.metrics import new_registry
from facade.client.failure_detector import FailureDetector
from facade.client.node_statistics import NodeStatistics
from facade.status.request_rate import RequestRate

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # the default deadline is 10 s
MESSAGES = ("/facade", "/v1/messages")  # prefixes of the paths of requests for messages
METHODS = ("GET", "HEAD", "POST", "OPTIONS")  # all other methods share one label


class FacadeMetrics:
    """Counts requests; values that other objects keep are read at each scrape.

    Args:
        statistics: counts of attempts at nodes and registries.
        detector: the failure detector, which knows suspected addresses.
        request_rate: gets the duration of each request for messages.
    """

    MEDIA_TYPE = prometheus_client.CONTENT_TYPE_LATEST

    def __init__(self, statistics: NodeStatistics, detector: FailureDetector, request_rate: RequestRate) -> None:
        self._request_rate = request_rate
        self._series = cache(self._find_series)  # looking them up by labels takes as long as counting
        self._registry = new_registry()
        self._requests = Counter(
            "threefold_http_requests",
            "Requests by method, route and status",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._request_s = Histogram(
            "threefold_http_request_duration_seconds",
            "Time to answer a request; for a stream, up to its first byte",
            ["method", "route"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._in_flight = Gauge(
            "threefold_http_requests_in_flight", "Requests that are being answered", registry=self._registry
        )
        self._registry.register(_ClientCollector(statistics, detector))

    def gauge(self, name: str, documentation: str, value: Callable[[], float]) -> None:
        """Add a gauge whose value is read at each scrape."""
        Gauge(name, documentation, registry=self._registry).set_function(value)

    def counter(self, name: str, documentation: str, value: Callable[[], float]) -> None:
        """Add a counter that is kept elsewhere and read at each scrape; Prometheus sees its name with `_total`."""
        self._registry.register(_ExternalCounter(name, documentation, value))

    def request_began(self) -> None:
        """Count a request as in flight."""
        self._in_flight.inc()

    def request_ended(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """Count an answered request; `route` is the template of its path, None for an unknown path."""
        route = route or "none"
        requests, request_s = self._series(method if method in METHODS else "other", route, status)
        self._in_flight.dec()
        requests.inc()
        request_s.observe(seconds)
        if route.startswith(MESSAGES):
            self._request_rate.record(seconds)

    def _find_series(self, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
        return self._requests.labels(method, route, str(status)), self._request_s.labels(method, route)

    def text(self) -> bytes:
        """All metrics in the text format of Prometheus."""
        return prometheus_client.generate_latest(self._registry)


class _ExternalCounter(Collector):
    """A counter whose value is kept elsewhere."""

    def __init__(self, name: str, documentation: str, value: Callable[[], float]) -> None:
        self._name = name
        self._documentation = documentation
        self._value = value

    def collect(self) -> Iterator[Metric]:
        """The current value."""
        yield CounterMetricFamily(self._name, self._documentation, self._value())


class _ClientCollector(Collector):
    """Collects attempts at nodes, lookups at registries and suspected addresses."""

    def __init__(self, statistics: NodeStatistics, detector: FailureDetector) -> None:
        self._statistics = statistics
        self._detector = detector

    def collect(self) -> Iterator[Metric]:
        """The counts since the start."""
        answered = CounterMetricFamily("threefold_node_answers", "Answers of a node", labels=["node"])
        failed = CounterMetricFamily(
            "threefold_node_failed_attempts", "Attempts without an answer, by reason", labels=["node", "reason"]
        )
        for node, counts in self._statistics.all().items():
            answered.add_metric([node], counts.answers)
            for reason, count in counts.failures.items():
                failed.add_metric([node, reason], count)
        lookups = CounterMetricFamily(
            "threefold_registry_lookups",
            "Lookups: answered, stale (the last good answer was used) or failed",
            labels=["outcome"],
        )
        for outcome, count in self._statistics.lookups().items():
            lookups.add_metric([outcome], count)
        yield from (answered, failed, lookups)
        yield GaugeMetricFamily(
            "threefold_suspected_addresses",
            "Addresses that did not answer their last request, and are tried last",
            len(self._detector.suspects()),
        )
