"""Spans of OpenTelemetry: they are recorded if its packages are installed (extra `otel`) and an endpoint is configured.

A trace goes from process to process in the request context.
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
except ImportError:  # pragma: no cover (tests have them)
    _INSTALLED = False
else:
    _INSTALLED = True

_NO_SPAN = contextlib.nullcontext()
_recording = False  # to ask OpenTelemetry each time takes 3 us
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"  # in the environment, as the specification of OpenTelemetry has it


def configure(service: str, environ: Mapping[str, str] = os.environ, *, installed: bool = _INSTALLED) -> None:
    """Record spans, and send them to the URL in ENDPOINT, if the environment has it.

    Raises:
        FatalError: the packages are missing.
    """
    if ENDPOINT not in environ:
        return
    if not installed:
        raise FatalError(f"{ENDPOINT} is set, and OpenTelemetry is not installed: pip install 'threefold[otel]'")
    provider = TracerProvider(resource=Resource.create({"service.name": f"threefold-{service}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    global _recording  # noqa: PLW0603 (the provider is one of the process, too)
    _recording = True


def start_request(name: str, request_id: str | None, traceparent: str | None) -> contextlib.ExitStack | None:
    """Make the context of a client request, from its headers, the current one; returns what `end_request` needs."""
    if not _recording:
        request_context.set_current(request_context.from_headers(request_id, traceparent))
        return None
    with contextlib.ExitStack() as stack:
        parent = propagate.extract({"traceparent": traceparent or ""})
        span = stack.enter_context(_tracer().start_as_current_span(name, context=parent, kind=trace.SpanKind.SERVER))
        current = _traceparent()
        source = request_context.from_headers(request_id, current)._replace(traceparent=current)
        span.set_attribute("request.id", source.request_id)
        request_context.set_current(source)
        return stack.pop_all()


def end_request(span_: contextlib.ExitStack | None, status: int) -> None:
    """End the span of a request that was answered with this HTTP status."""
    if span_:
        span = trace.get_current_span()
        span.set_attribute("http.response.status_code", status)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            span.set_status(trace.StatusCode.ERROR)
        span_.close()


def server_span(name: str) -> contextlib.AbstractContextManager[None]:
    """A span around the answer to a request of another process, below the span that the request context names."""
    return _below(name, trace.SpanKind.SERVER, {}, remote=True) if _recording else _NO_SPAN


def client_span(name: str, address: str) -> contextlib.AbstractContextManager[None]:
    """A span around a request to another process, for the current client request."""
    return _below(name, trace.SpanKind.CLIENT, {"server.address": address}, remote=False) if _recording else _NO_SPAN


@contextlib.contextmanager
def _below(name: str, kind: Any, attributes: dict[str, str], *, remote: bool) -> Iterator[None]:
    """A span below the current one; without one, or if `remote`, below the span that the request context names.

    Inside of the block the request context names the new span.
    """
    if (source := request_context.current()) is None:
        yield
        return
    within = not remote and trace.get_current_span().get_span_context().is_valid
    parent = None if within else propagate.extract({"traceparent": source.traceparent})
    with (
        _tracer().start_as_current_span(name, context=parent, kind=kind, attributes=attributes),
        request_context.use(source._replace(traceparent=_traceparent())),
    ):
        yield


def _tracer() -> "trace.Tracer":
    return trace.get_tracer("threefold")


def _traceparent() -> str:
    """The traceparent of the current span."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier["traceparent"]
