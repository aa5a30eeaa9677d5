"""OpenTelemetry spans, recorded if its packages (extra `otel`) are installed and an endpoint is configured.

The request context carries a trace from process to process.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from common.errors import FatalError
from common.telemetry import request_context

try:
    from opentelemetry import propagate, trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
except ImportError:  # pragma: no cover (installed for tests)
    _INSTALLED = False
else:
    _INSTALLED = True

_NO_SPAN = contextlib.nullcontext()
_recording = False  # a flag of our own, because asking OpenTelemetry takes 3 us
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"  # an environment variable of the OpenTelemetry specification


def configure(service: str, environ: Mapping[str, str] = os.environ, *, installed: bool = _INSTALLED) -> None:
    """Record spans and send them to the URL in the environment variable ENDPOINT, if it is set.

    Raises:
        FatalError: ENDPOINT is set, and the packages are not installed.
    """
    if ENDPOINT not in environ:
        return
    if not installed:
        raise FatalError(f"{ENDPOINT} is set, and OpenTelemetry is not installed: pip install 'threefold[otel]'")
    provider = TracerProvider(resource=Resource.create({"service.name": f"threefold-{service}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    global _recording  # noqa: PLW0603 (OpenTelemetry's provider is global, too)
    _recording = True


def start_request(
    name: str, request_id: str | None, traceparent: str | None, tracestate: str | None
) -> contextlib.ExitStack | None:
    """Start a span and make the request context of these headers current; returns the argument for `end_request`."""
    if not _recording:
        request_context.set_current(request_context.from_headers(request_id, traceparent, tracestate))
        return None
    with contextlib.ExitStack() as stack:
        parent = propagate.extract({"traceparent": traceparent or "", "tracestate": tracestate or ""})
        span = stack.enter_context(_tracer().start_as_current_span(name, context=parent, kind=trace.SpanKind.SERVER))
        current = _carrier()
        source = request_context.from_headers(request_id, current["traceparent"])._replace(**current)
        span.set_attribute("request.id", source.request_id)
        request_context.set_current(source)
        return stack.pop_all()


def end_request(open_span: contextlib.ExitStack | None, status: int) -> None:
    """End the span of a request that was answered with this HTTP status; None: no span was started."""
    if open_span:
        span = trace.get_current_span()
        span.set_attribute("http.response.status_code", status)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            span.set_status(trace.StatusCode.ERROR)
        open_span.close()


def server_span(name: str) -> contextlib.AbstractContextManager[None]:
    """A server span around handling a request of another process, a child of the span in the request context."""
    return _child_span(name, trace.SpanKind.SERVER, {}, remote=True) if _recording else _NO_SPAN


def client_span(name: str, address: str) -> contextlib.AbstractContextManager[None]:
    """A client span around a request to another process, a child of the current span."""
    if not _recording:
        return _NO_SPAN
    return _child_span(name, trace.SpanKind.CLIENT, {"server.address": address}, remote=False)


@contextlib.contextmanager
def _child_span(name: str, kind: Any, attributes: dict[str, str], *, remote: bool) -> Iterator[None]:
    """Start a child of the current span, or, without one or if `remote`, of the span in the request context.

    Within the block the request context names the new span. Without a request context there is no span.
    """
    if (source := request_context.current()) is None:
        yield
        return
    has_local_parent = not remote and trace.get_current_span().get_span_context().is_valid
    parent = (
        None
        if has_local_parent
        else propagate.extract({"traceparent": source.traceparent, "tracestate": source.tracestate})
    )
    with (
        _tracer().start_as_current_span(name, context=parent, kind=kind, attributes=attributes),
        request_context.use(source._replace(**_carrier())),
    ):
        yield


def _tracer() -> "trace.Tracer":
    return trace.get_tracer("threefold")


def _carrier() -> dict[str, str]:
    """The traceparent of the current span, and its tracestate if it has one."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return {name: carrier[name] for name in ("traceparent", "tracestate") if name in carrier}
