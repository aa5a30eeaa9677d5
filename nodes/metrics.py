"""The Prometheus metrics of a logging node, served at a separate HTTP address."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

import prometheus_client
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from common import hostport
from common.errors import FatalError, ThreefoldError
from common.protocol.admin import Report
from common.protocol.codec import Reply, Request
from common.protocol.messages import Failure, State
from common.rpc.handler import DirectHandler, Handler
from common.telemetry.metrics import new_registry

REPORT_S = 1.0  # timeout for the node's report; after it a scrape has only counters and histograms
# Upper limits of the histogram buckets; an append is limited to 0.9 s.
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)

Ask = Callable[[], Coroutine[Any, Any, Report]]


class NodeMetrics:
    """The metrics of one node, with a registry of their own, so that several nodes may run in one process.

    Attributes:
        registry: the Prometheus registry of these metrics.
    """

    def __init__(self) -> None:
        self.registry = new_registry()
        self._report: Ask | None = None
        self._requests = Counter(
            "threefold_node_requests", "Requests by type and outcome", ["type", "outcome"], registry=self.registry
        )
        self._request_s = Histogram(
            "threefold_node_request_duration_seconds",
            "Time to answer a request",
            ["type"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._by_kind: dict[tuple[str, str], tuple[Counter, Histogram]] = {}
        self._in_flight = Gauge(
            "threefold_node_requests_in_flight", "Requests that are being answered", registry=self.registry
        )
        self._commit_s = Histogram(
            "threefold_journal_commit_duration_seconds",
            "Time of a commit of the journal with its flush to the disk",
            buckets=SECONDS,
            registry=self.registry,
        )
        self._map_s = Histogram(
            "threefold_map_append_duration_seconds",
            "Time for the Hazelcast map to take messages",
            buckets=SECONDS,
            registry=self.registry,
        )

    def committed(self, seconds: float) -> None:
        """Record the duration of a commit of the journal."""
        self._commit_s.observe(seconds)

    def mapped(self, seconds: float) -> None:
        """Record how long the Hazelcast map took to store messages."""
        self._map_s.observe(seconds)

    def measured(self, handler: Handler) -> Handler:
        """A handler that calls the given one, and counts and times its answers."""

        async def handle(request: Request) -> Reply:
            ended, reply = self._began(request), None
            try:
                reply = await handler(request)
                return reply
            finally:
                ended(reply)

        return handle

    def measured_direct(self, direct: DirectHandler) -> DirectHandler:
        """A direct handler (without tasks) that calls the given one, and counts and times its answers."""

        def take(request: Request, reply: Callable[[Reply], None]) -> None:
            ended = self._began(request)

            def answer(message: Reply) -> None:
                ended(message)
                reply(message)

            direct.take(request, answer)

        return DirectHandler(direct.kinds, take)

    def _began(self, request: Request) -> Callable[[Reply | None], None]:
        """Count a request in flight; the caller passes its reply, None if it failed, to the returned function."""
        name, began_s = str(type(request).__struct_config__.tag), time.perf_counter()
        self._in_flight.inc()

        def ended(reply: Reply | None) -> None:
            self._in_flight.dec()
            outcome = "failed" if reply is None else str(reply.code) if isinstance(reply, Failure) else "ok"
            count, took_s = self._of(name, outcome)
            count.inc()
            took_s.observe(time.perf_counter() - began_s)

        return ended

    def _of(self, name: str, outcome: str) -> tuple[Counter, Histogram]:
        """The counter and histogram of a request type and outcome; cached, because looking up labels is slow."""
        found = self._by_kind.get((name, outcome))
        if found is None:
            found = self._requests.labels(name, outcome), self._request_s.labels(name)
            self._by_kind[name, outcome] = found
        return found

    def watch(self, report: Ask, refused: Callable[[], Mapping[str, int]]) -> None:
        """Include at each scrape the node's report, and the numbers of refused connections by reason."""
        self._report = report
        self.registry.register(_Refused(refused))

    def count_missed(self, missed: Callable[[], int]) -> None:
        """Include at each scrape the number of messages that the map did not store in time."""
        self.registry.register(_Missed(missed))

    @contextlib.contextmanager
    def served(self, address: str | None) -> Iterator[None]:
        """Serve scrapes at host:port, if an address is given, while the block runs.

        Raises:
            FatalError: the address cannot be bound.
        """
        if address is None or self._report is None:
            yield
            return
        host, port = hostport.split(address)
        self.registry.register(_ReportGauges(self._report, asyncio.get_running_loop()))
        try:
            server, thread = prometheus_client.start_http_server(port, host, self.registry)
        except OSError as error:
            raise FatalError(f"cannot serve metrics at {address}: {error.strerror}") from error
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class _Refused(Collector):
    """The connections that a server refused, by reason."""

    def __init__(self, refused: Callable[[], Mapping[str, int]]) -> None:
        self._refused = refused

    def collect(self) -> Iterator[Metric]:
        """One counter with a sample for each reason."""
        counted = CounterMetricFamily("threefold_connections_refused", "Connections refused", labels=["reason"])
        for reason, count in self._refused().items():
            counted.add_metric([reason], count)
        yield counted


class _Missed(Collector):
    """The messages that are stored in the journal, and were not stored in the map in time."""

    def __init__(self, missed: Callable[[], int]) -> None:
        self._missed = missed

    def collect(self) -> Iterator[Metric]:
        """One counter."""
        yield CounterMetricFamily(
            "threefold_map_appends_missed", "Messages that the map did not take in time", self._missed()
        )


class _ReportGauges(Collector):
    """Gauges from the node's report, which is requested at each scrape."""

    def __init__(self, report: Ask, loop: asyncio.AbstractEventLoop) -> None:
        self._report = report
        self._loop = loop

    def describe(self) -> Iterator[Metric]:
        """Describe no metrics at registration: it runs in the loop, for which `collect` waits."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Gauges of the node's current state; none if it does not report within REPORT_S."""
        asking = asyncio.run_coroutine_threadsafe(self._report(), self._loop)
        try:
            found = asking.result(REPORT_S)
        except (TimeoutError, ThreefoldError):
            asking.cancel()
            return
        state = GaugeMetricFamily("threefold_node_state", "1 for the state that the node is in", labels=["state"])
        for name in State:
            state.add_metric([str(name)], float(found.state is name))
        yield state
        yield GaugeMetricFamily("threefold_node_start_time_seconds", "When it started", found.started_ms / 1_000)
        yield GaugeMetricFamily("threefold_journal_messages", "Messages in the journal", found.messages)
        yield GaugeMetricFamily("threefold_journal_bytes", "Size of the journal", found.journal_bytes)
        yield GaugeMetricFamily("threefold_journal_synced_seconds", "When it was flushed last", found.synced_ms / 1_000)
        yield GaugeMetricFamily(
            "threefold_replica_in_sync", "Listed replicas in its in-sync set; 0: it is in none", len(found.in_sync)
        )
        yield GaugeMetricFamily("threefold_replica_term", "Term of its in-sync set", found.term)
        yield GaugeMetricFamily(
            "threefold_replica_unconfirmed_records",
            "Records that it accepted and another replica has not confirmed",
            found.unconfirmed,
        )
        if found.engine == "hazelcast":
            yield GaugeMetricFamily("threefold_map_entries", "Messages in the map; -1: not known", found.entries)
            yield GaugeMetricFamily("threefold_hazelcast_members", "Members that it sees", len(found.members))
