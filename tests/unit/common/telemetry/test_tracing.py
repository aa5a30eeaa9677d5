"""Tests of common.spans: one trace from a client's POST to the logging node."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from falcon import testing
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from common.errors import FatalError
from common.rpc.pipelined import PipelinedTransport, WaitingTransport
from common.telemetry import tracing
from facade.app import create_app
from facade.client.client import Client
from facade.client.failure_detector import FailureDetector
from facade.client.node_statistics import NodeStatistics
from facade.client.retry import RetryPolicy
from facade.server.scheduler import Scheduler
from facade.status.metrics import FacadeMetrics
from facade.status.request_rate import RequestRate
from facade.streams.responses import StreamSemaphore
from facade.streams.subscriptions import Subscriptions
from registry.directory import Directory
from scripts.launcher.ports import free_addresses
from tests.support.memory_node import MemoryNode, listed_by
from tests.support.servers import serving
from tests.support.waiting import eventually

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """The spans of this process from now on."""
    monkeypatch.setattr(tracing, "_recording", True)
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    yield exporter
    provider.shutdown()


def test_one_trace_leads_from_the_post_over_req_to_the_node(recorded: InMemorySpanExporter) -> None:
    """Each span is below that of who asked, the first one below that of the client."""
    directory = Directory({}, {}, clock=lambda: 0.0)  # no lease lapses
    with ExitStack() as stack:
        scheduler = Scheduler()
        pipelines = PipelinedTransport(loop=scheduler)
        transport = WaitingTransport(pipelines, scheduler.wait)
        stack.callback(pipelines.close)
        (address,) = free_addresses(1)
        stack.enter_context(serving(MemoryNode(address).handle, address=address))
        asyncio.run(listed_by(directory, [address]))
        registry = stack.enter_context(serving(directory.handle))
        suspects, meter = FailureDetector(), NodeStatistics()
        client = Client(scheduler, transport, [registry], RetryPolicy(5.0, 10.0), detector=suspects, statistics=meter)
        metrics = FacadeMetrics(meter, suspects, RequestRate())
        http = testing.TestClient(
            create_app(client, Subscriptions(scheduler, client), StreamSemaphore(1), {}, metrics=metrics)
        )
        posted = http.simulate_post("/facade", json={"msg": "hi"}, headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})
        assert 200 == posted.status_code
        eventually(lambda: "HTTP POST" in names(recorded))
        found = recorded.get_finished_spans()

    assert {int(TRACE, 16)} == {span.context.trace_id for span in found if span.context}
    for request in ("Lookup", "Append"):
        (at_server,) = [span for span in found if (span.name, span.kind) == (request, trace.SpanKind.SERVER)]
        assert ["HTTP POST", request, request] == chain(recorded, at_server)
    begun = http.simulate_get("/livez").headers["x-request-id"]
    assert begun in {f"{span.context.trace_id:032x}" for span in recorded.get_finished_spans() if span.context}
    (first,) = [span for span in found if span.name == "HTTP POST"]
    assert posted.headers["x-request-id"] == (first.attributes or {})["request.id"]


def names(recorded: InMemorySpanExporter) -> list[str]:
    """Of the spans that have ended."""
    return [span.name for span in recorded.get_finished_spans()]


def chain(recorded: InMemorySpanExporter, last: ReadableSpan) -> list[str]:
    """The names of the spans above one, from the first one on; that one is below the client's."""
    by_id = {span.context.span_id: span for span in recorded.get_finished_spans() if span.context}
    above = [last.name]
    while (parent := last.parent) and parent.span_id in by_id:
        last = by_id[parent.span_id]
        above.append(last.name)
    assert last.parent
    assert last.parent.trace_id == int(TRACE, 16)
    return above[::-1]


def test_spans_are_recorded_where_the_environment_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """From then on each request has one."""
    monkeypatch.setattr(tracing, "_recording", False)
    monkeypatch.setattr(trace, "set_tracer_provider", lambda _provider: None)
    monkeypatch.setattr(tracing, "BatchSpanProcessor", SimpleSpanProcessor)  # without a thread of its own
    tracing.configure("x", {})
    assert tracing.client_span("Ping", "a:1") is tracing._NO_SPAN
    tracing.configure("x", {tracing.ENDPOINT: "http://127.0.0.1:1"})
    assert tracing.client_span("Ping", "a:1") is not tracing._NO_SPAN


def test_who_wants_spans_and_lacks_the_packages_is_told() -> None:
    """Nothing is silently not recorded."""
    with pytest.raises(FatalError, match="OpenTelemetry is not installed: pip install"):
        tracing.configure("x", {tracing.ENDPOINT: "http://127.0.0.1:1"}, installed=False)
    tracing.configure("x", {})
