"""Spans of OpenTelemetry, where its packages are installed (extra `otel`) and somebody records them; else nothing.

A trace goes from process to process in the origin of a request.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

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

_NOTHING = contextlib.nullcontext()
_recording = False  # to ask OpenTelemetry each time takes 3 us
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
    global _recording  # noqa: PLW0603 (the provider is one of the process, too)
    _recording = True


def begun(name: str, request_id: str | None, traceparent: str | None) -> contextlib.ExitStack | None:
    """From now on this greenlet works on the request of a client with these headers; what to give to `ended`."""
    if not _recording:
        origin.begin(origin.received(request_id, traceparent))
        return None
    with contextlib.ExitStack() as stack:
        parent = propagate.extract({"traceparent": traceparent or ""})
        span = stack.enter_context(_tracer().start_as_current_span(name, context=parent, kind=trace.SpanKind.SERVER))
        current = _traceparent()
        source = origin.received(request_id, current)._replace(traceparent=current)
        span.set_attribute("request.id", source.request_id)
        origin.begin(source)
        return stack.pop_all()


def ended(begun_: contextlib.ExitStack | None, status: int) -> None:
    """The request is answered with this HTTP status."""
    if begun_:
        span = trace.get_current_span()
        span.set_attribute("http.response.status_code", status)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            span.set_status(trace.StatusCode.ERROR)
        begun_.close()


def served(name: str) -> contextlib.AbstractContextManager[None]:
    """The block answers the current request, for another process, whose span its origin names."""
    return _below(name, trace.SpanKind.SERVER, {}, remote=True) if _recording else _NOTHING


def asked(name: str, address: str) -> contextlib.AbstractContextManager[None]:
    """The block asks another process for the current request."""
    return _below(name, trace.SpanKind.CLIENT, {"server.address": address}, remote=False) if _recording else _NOTHING


@contextlib.contextmanager
def _below(name: str, kind: Any, attributes: dict[str, str], *, remote: bool) -> Iterator[None]:
    """A span below the current one, or, when there is none or it is `remote`, below that which the origin names.

    In the block the origin names this span.
    """
    if (source := origin.current()) is None:
        yield
        return
    within = not remote and trace.get_current_span().get_span_context().is_valid
    parent = None if within else propagate.extract({"traceparent": source.traceparent})
    with (
        _tracer().start_as_current_span(name, context=parent, kind=kind, attributes=attributes),
        origin.of(source._replace(traceparent=_traceparent())),
    ):
        yield


def _tracer() -> "trace.Tracer":
    return trace.get_tracer("threefold")


def _traceparent() -> str:
    """That of the current span."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier["traceparent"]
