"""Tests of common.telemetry.tracing: spans, as a collector of OpenTelemetry receives them."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from falcon import testing
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from common.errors import FatalError
from common.rpc.pipelined import PipelinedTransport, WaitingTransport
from common.telemetry import request_context, tracing
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
from scripts.launcher.processes import ROOT
from tests.support.memory_node import MemoryNode, register_nodes
from tests.support.servers import serving

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@dataclass
class Traced:
    """What a process did that was told to record spans.

    Attributes:
        spans: that the collector received.
        post_id: the request id of the POST with a traceparent.
        health_id: the request id of a health request without one.
    """

    spans: list[Span] = field(default_factory=list)
    post_id: str = ""
    health_id: str = ""

    def name_path(self, span: Span) -> list[str]:
        """The names of the spans above this one, from the first one on, and its own name."""
        above = [one for one in self.spans if one.span_id == span.parent_span_id]
        return [*(self.name_path(above[0]) if above else []), span.name]


@pytest.fixture(scope="module")
def traced() -> Traced:
    """The spans of a process that posted a message through a facade, a registry and a node."""
    found = Traced()

    class Collector(BaseHTTPRequestHandler):
        """Receives spans over OTLP."""

        def do_POST(self) -> None:
            """Keep the spans."""
            body = self.rfile.read(int(self.headers["Content-Length"]))
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    found.spans.extend(scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        try:
            ended = subprocess.run(
                [sys.executable, "-c", f"import {__name__} as scenario; scenario.post_a_message()"],
                cwd=ROOT,
                env={**os.environ, tracing.ENDPOINT: endpoint, "NO_PROXY": "127.0.0.1"},
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            )
        finally:
            server.shutdown()
            thread.join()
    found.post_id, found.health_id = json.loads(ended.stdout.splitlines()[-1])
    return found


def post_a_message() -> None:
    """Configure tracing, and post a message; run by a process of its own, which exports its spans when it exits."""
    tracing.configure("test")
    directory = Directory({}, {}, clock=lambda: 0.0)  # its clock stands still, so no lease lapses
    with ExitStack() as stack:
        scheduler = Scheduler()
        pipelines = PipelinedTransport(loop=scheduler)
        transport = WaitingTransport(pipelines, scheduler.wait)
        stack.callback(pipelines.close)
        (address,) = free_addresses(1)
        stack.enter_context(serving(MemoryNode(address).handle, address=address))
        asyncio.run(register_nodes(directory, [address]))
        registry = stack.enter_context(serving(directory.handle))
        detector, statistics = FailureDetector(), NodeStatistics()
        policy = RetryPolicy(5.0, 10.0)
        client = Client(scheduler, transport, [registry], policy, detector=detector, statistics=statistics)
        metrics = FacadeMetrics(statistics, detector, RequestRate())
        app = create_app(client, Subscriptions(scheduler, client), StreamSemaphore(1), {}, metrics=metrics)
        http = testing.TestClient(app)
        posted = http.simulate_post("/facade", json={"msg": "hi"}, headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})
        assert 200 == posted.status_code
        health = http.simulate_get("/livez")
    scheduler.close()
    print(json.dumps([posted.headers["x-request-id"], health.headers["x-request-id"]]))  # noqa: T201 (for its parent)


def test_one_trace_leads_from_a_post_to_the_registry_and_the_node(traced: Traced) -> None:
    """Each span is below that of its caller, and the first one below that of the client."""
    spans = [span for span in traced.spans if span.trace_id.hex() == TRACE]

    for request in ("Lookup", "Append"):
        (at_server,) = [span for span in spans if (span.name, span.kind) == (request, Span.SPAN_KIND_SERVER)]
        assert ["HTTP POST", request, request] == traced.name_path(at_server)
    (first,) = [span for span in spans if span.name == "HTTP POST"]
    assert SPAN == first.parent_span_id.hex()
    assert {"request.id": traced.post_id}.items() <= {
        one.key: one.value.string_value for one in first.attributes
    }.items()


def test_a_request_without_a_trace_gets_one(traced: Traced) -> None:
    """Its request id is that of its trace."""
    assert {TRACE, traced.health_id} == {span.trace_id.hex() for span in traced.spans}


def test_without_an_endpoint_no_span_is_recorded() -> None:
    """The request context stays as it is."""
    tracing.configure("test", {})
    context = request_context.from_headers("order-7", f"00-{TRACE}-{SPAN}-01")
    with request_context.use(context), tracing.client_span("Ping", "a:1"):
        assert not trace.get_current_span().get_span_context().is_valid
        assert context == request_context.current()


def test_an_endpoint_without_the_packages_is_an_error() -> None:
    """Otherwise spans would be missing without a reason; without an endpoint the packages are optional."""
    with pytest.raises(FatalError, match="OpenTelemetry is not installed: pip install"):
        tracing.configure("test", {tracing.ENDPOINT: "http://127.0.0.1:1"}, installed=False)
    tracing.configure("test", {}, installed=False)
