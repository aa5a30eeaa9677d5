"""Spans of OpenTelemetry, where its packages are installed (extra `otel`) and somebody records them; else nothing.

A trace goes from process to process in the origin of a request.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping

from common import origin
from common.errors import FatalError

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

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"  # in the environment, as the specification of OpenTelemetry has it


def record(service: str, environ: Mapping[str, str] = os.environ, *, installed: bool = _INSTALLED) -> None:
    """Send spans to where ENDPOINT says, if it says so.

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


@contextlib.contextmanager
def served(name: str) -> Iterator[None]:
    """The block answers the current request: a span below that of who asked, which its origin names."""
    if not _recorded() or (source := origin.current()) is None:
        yield
        return
    parent = propagate.extract({"traceparent": source.traceparent})
    attributes = {"request.id": source.request_id}
    with (
        trace.get_tracer("threefold").start_as_current_span(
            name, context=parent, kind=trace.SpanKind.SERVER, attributes=attributes
        ),
        _handed_on(source),
    ):
        yield


@contextlib.contextmanager
def asked(name: str, address: str) -> Iterator[None]:
    """The block asks another process for the current request: a span below the current one."""
    if not _recorded() or (source := origin.current()) is None:
        yield
        return
    attributes = {"server.address": address}
    with (
        trace.get_tracer("threefold").start_as_current_span(name, kind=trace.SpanKind.CLIENT, attributes=attributes),
        _handed_on(source),
    ):
        yield


def _recorded() -> bool:
    return _INSTALLED and not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


@contextlib.contextmanager
def _handed_on(source: origin.Origin) -> Iterator[None]:
    """From now on the origin names the current span."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    with origin.of(source._replace(traceparent=carrier.get("traceparent", source.traceparent))):
        yield
