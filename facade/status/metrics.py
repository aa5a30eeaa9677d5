"""What Prometheus scrapes from a facade."""

from collections.abc import Callable, Iterator
from functools import cache

import prometheus_client
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from common.scraping import new_registry
from facade.client.failure_detector import Suspects
from facade.meter import Meter
from facade.status.traffic import Traffic

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # a request has 10 s
MESSAGES = ("/facade", "/v1/messages")  # paths of requests for messages
METHODS = ("GET", "HEAD", "POST", "OPTIONS")  # what else clients send is one label


class FacadeMetrics:
    """Counts requests; what the client of the nodes counts itself is read at each scrape.

    Args:
        meter: what was asked of nodes and registries.
        suspects: addresses that did not answer lately.
        traffic: told of requests for messages, too.
    """

    MEDIA_TYPE = prometheus_client.CONTENT_TYPE_LATEST

    def __init__(self, meter: Meter, suspects: Suspects, traffic: Traffic) -> None:
        self._traffic = traffic
        self._series = cache(self._find)  # to find them by their labels takes as long as to count
        self._registry = new_registry()
        self._requests = Counter(
            "threefold_http_requests",
            "Requests by method, route and status",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._request_s = Histogram(
            "threefold_http_request_duration_seconds",
            "Time to answer a request; of an answer that goes on, to its begin",
            ["method", "route"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._in_flight = Gauge(
            "threefold_http_requests_in_flight", "Requests that are being answered", registry=self._registry
        )
        self._registry.register(_Asked(meter, suspects))

    def gauge(self, name: str, documentation: str, value: Callable[[], float]) -> None:
        """One more figure, asked for at each scrape."""
        Gauge(name, documentation, registry=self._registry).set_function(value)

    def counter(self, name: str, documentation: str, value: Callable[[], float]) -> None:
        """The same of what is counted elsewhere since the start; its name ends with `_total` when it is read."""
        self._registry.register(_Counted(name, documentation, value))

    def began(self) -> None:
        """A request has come."""
        self._in_flight.inc()

    def ended(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """It is answered: `route` is the template of the path, None when there is none."""
        route = route or "none"
        requests, request_s = self._series(method if method in METHODS else "other", route, status)
        self._in_flight.dec()
        requests.inc()
        request_s.observe(seconds)
        if route.startswith(MESSAGES):
            self._traffic.note(seconds)

    def _find(self, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
        return self._requests.labels(method, route, str(status)), self._request_s.labels(method, route)

    def text(self) -> bytes:
        """All of it as Prometheus reads it."""
        return prometheus_client.generate_latest(self._registry)


class _Counted(Collector):
    """A counter of somebody else's."""

    def __init__(self, name: str, documentation: str, value: Callable[[], float]) -> None:
        self._name = name
        self._documentation = documentation
        self._value = value

    def collect(self) -> Iterator[Metric]:
        """How much it is now."""
        yield CounterMetricFamily(self._name, self._documentation, self._value())


class _Asked(Collector):
    """What a facade asked of others, as its meter has it."""

    def __init__(self, meter: Meter, suspects: Suspects) -> None:
        self._meter = meter
        self._suspects = suspects

    def collect(self) -> Iterator[Metric]:
        """Counted since the start."""
        answered = CounterMetricFamily("threefold_node_answers", "Answers of a node", labels=["node"])
        fallbacks = CounterMetricFamily(
            "threefold_node_fallbacks", "Attempts without an answer, by reason", labels=["node", "reason"]
        )
        for node, seen in self._meter.all().items():
            answered.add_metric([node], seen.served)
            for reason, count in seen.failures.items():
                fallbacks.add_metric([node, reason], count)
        lookups = CounterMetricFamily(
            "threefold_registry_lookups",
            "Lookups: answered, stale (the last good answer had to do) or failed",
            labels=["outcome"],
        )
        for outcome, count in self._meter.lookups().items():
            lookups.add_metric([outcome], count)
        yield from (answered, fallbacks, lookups)
        yield GaugeMetricFamily("threefold_suspects", "Addresses that are asked last", len(self._suspects.known()))
