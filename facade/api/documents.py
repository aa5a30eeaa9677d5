"""Complete (not streamed) responses, such as health, cluster status and metrics, and the resource that serves them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import falcon
import msgspec

from common import config
from common.protocol.messages import PAGE_MESSAGES, State
from common.telemetry.request_context import REQUEST_ID_CHARACTERS
from facade.api import problem
from facade.api.body import JSON
from facade.api.content import coding
from facade.api.openapi import description
from facade.api.schema import ClientLimits
from facade.client.client import Client
from facade.server.single_flight import SingleFlight
from facade.status.metrics import FacadeMetrics
from facade.status.monitor import StatusMonitor
from facade.status.schema import RequestRateHistory

READINESS_MAX_AGE_S = 0.25  # readiness probes within this time share one question to the nodes


@dataclass(frozen=True, slots=True)
class Document:
    """A complete response.

    Attributes:
        etag: entity tag of the body, without quotes; "" for none.
        gzipped: the same body compressed; b"" if there is none.
    """

    body: bytes
    media_type: str = JSON
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    etag: str = ""
    gzipped: bytes = b""


MakeDocument = Callable[[Mapping[str, Any]], Document]  # takes the parameters of path and query

NO_STORE = {"Cache-Control": "no-store"}
REVALIDATE = {"Cache-Control": "no-cache"}


def facade_documents(
    client: Client,
    monitor: StatusMonitor,
    metrics: FacadeMetrics,
    limits: ClientLimits,
    *,
    draining: Callable[[], bool] = lambda: False,
) -> dict[str, MakeDocument]:
    """The documents of a facade by path.

    Args:
        client: asks the logging nodes for their states.
        monitor: provides the status of the cluster.
        metrics: the metrics of this facade.
        limits: the limits that clients can read.
        draining: returns True when this facade is stopping.
    """
    return {
        "/livez": lambda _: Document(msgspec.json.encode({"status": "alive"}), headers=NO_STORE),
        "/readyz": _readiness(client, draining),
        "/v1/cluster": lambda _: Document(msgspec.json.encode(monitor.status()), headers=REVALIDATE),
        "/v1/history": lambda _: Document(
            msgspec.json.encode(RequestRateHistory(samples=monitor.request_rate.samples())), headers=NO_STORE
        ),
        "/v1/limits": constant(Document(msgspec.json.encode(limits), headers=REVALIDATE)),
        "/openapi.json": constant(Document(description.description(), headers=REVALIDATE)),
        "/metrics": lambda _: Document(metrics.text(), metrics.MEDIA_TYPE, headers=NO_STORE),
    }


def constant(document: Document) -> MakeDocument:
    """A document that is the same for all parameters."""
    return lambda _: document


def failure(status: int, message: str, **more: Any) -> Document:
    """A problem document."""
    return Document(
        problem.body(status, message, **more), problem.MEDIA_TYPE, status, headers=dict(problem.headers(status))
    )


def client_limits(settings: config.Config) -> ClientLimits:
    """The limits that clients of a facade with this configuration can read."""
    limits = settings.limits
    return ClientLimits(
        message_bytes=limits.message_bytes,
        fields=limits.fields,
        fields_bytes=limits.fields_bytes,
        body_bytes=limits.body_bytes,
        batch_bytes=limits.batch_bytes,
        batch_messages=limits.batch_messages,
        page_messages=PAGE_MESSAGES,
        url_bytes=limits.url_bytes,
        header_bytes=limits.header_bytes,
        idempotency_key_characters=limits.key_characters,
        request_id_characters=REQUEST_ID_CHARACTERS,
        receive_s=limits.receive_s,
        body_bytes_per_s=limits.body_bytes_per_s,
        deadline_s=settings.facade.deadline_s,
        streams=settings.facade.streams,
        queued=limits.queued,
        connections=limits.connections,
        client_rate=limits.client_rate,
    )


def _readiness(client: Client, draining: Callable[[], bool]) -> MakeDocument:
    """The document for readiness: can a message be stored now? With `verbose`, also the state of each logging node."""
    until_ready = SingleFlight(client.scheduler, lambda: dict(client.states(until_ready=True)))
    all_states = SingleFlight(client.scheduler, lambda: dict(client.states(until_ready=False)))

    def make(params: Mapping[str, Any]) -> Document:
        states = (all_states if "verbose" in params else until_ready).get(max_age=READINESS_MAX_AGE_S)
        stopping = draining()
        details = {"draining": stopping, "logging_nodes": states} if "verbose" in params else {}
        if stopping or State.READY not in states.values():
            reason = "this facade is stopping" if stopping else "no logging node can store a message"
            return failure(503, reason, **details)
        if client.refusal:
            return failure(503, f"the logging nodes refuse messages of this facade: {client.refusal}", **details)
        return Document(msgspec.json.encode({"status": "ready", **details}), headers=NO_STORE)

    return make


class DocumentResource:
    """Serves a document, with its entity tag if it has one."""

    def __init__(self, make: MakeDocument) -> None:
        self._make = make

    def on_get(self, request: falcon.Request, response: falcon.Response, **path_params: str) -> None:
        """Answer with the document, or with 304 if the client has it already."""
        document = self._make({**request.params, **path_params})
        response.status = falcon.code_to_http_status(document.status)
        response.content_type = document.media_type
        response.set_headers(document.headers)
        if document.gzipped:
            response.append_header("Vary", "Accept-Encoding")
        if document.etag:
            response.etag = falcon.ETag.loads(f'W/"{document.etag}"')  # weak, because gzip changes the bytes
            if any(tag in ("*", document.etag) for tag in request.if_none_match or ()):
                response.status = falcon.HTTP_304
                return
        response.data = document.body
        if document.gzipped and coding.accepts(request.get_header("Accept-Encoding"), coding.GZIP):
            response.data = document.gzipped
            response.set_header("Content-Encoding", "gzip")

    on_head = on_get
