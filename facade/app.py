"""HTTP on one side, `facade.client` on the other: the only module that imports falcon."""

import time
from collections.abc import Generator, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any

import falcon
import msgspec
import structlog

from common import ids, origin, spans
from common.errors import MissingError, OutcomeUnknownError, OverloadError, RateError, RequestError, ThreefoldError
from common.wire import PAGE_MESSAGES, Page, Stored
from facade import body, problem, query, schema, streams
from facade.access import Access
from facade.client.client import Client
from facade.documents import Make
from facade.follow import Live
from facade.intake import Intake
from facade.metrics import FacadeMetrics
from facade.operations import EVENTS
from facade.timing import Timing

log = structlog.get_logger()


def create_app(
    client: Client,
    live: Live,
    slots: streams.Slots,
    documents: Mapping[str, Make],
    *,
    metrics: FacadeMetrics,
    access: Access | None = None,
    intake: Intake | None = None,
) -> "falcon.App[falcon.Request, falcon.Response]":
    """The WSGI application.

    Args:
        client: asks the other services.
        live: tells what comes.
        slots: for answers that go on.
        documents: whole answers by path.
        metrics: told of each request.
        access: who may do what; None: everybody everything.
        intake: what is taken of posts; None: with the usual limits.
    """
    app = falcon.App(middleware=[Middleware(metrics, access or Access())])
    app.req_options.keep_blank_qs_values = True
    app.set_error_serializer(_serialize_http_error)
    app.add_error_handler(Exception, _on_defect)
    app.add_error_handler(ThreefoldError, _on_error)
    intake = intake or Intake(client)
    app.add_route("/facade", FacadeResource(client, slots, intake))
    app.add_route("/v1/messages", MessagesResource(client, live, slots, intake))
    app.add_route("/v1/messages/{message_id}", MessageResource(client))
    for path, make in documents.items():
        app.add_route(path, DocumentResource(make))
    return app


class Middleware:
    """Counts requests; tells in each reply what the request is called, and where its time went; asks who may."""

    def __init__(self, metrics: FacadeMetrics, access: Access) -> None:
        self._metrics = metrics
        self._access = access

    def process_request(self, request: falcon.Request, response: falcon.Response) -> None:
        """From now on this greenlet works on this request."""
        named, traceparent = request.get_header("X-Request-ID"), request.get_header("traceparent")
        request.context.span = spans.begun(f"HTTP {request.method}", named, traceparent)
        if source := origin.current():
            response.set_header("X-Request-ID", source.request_id)
        response.set_headers(problem.SECURITY)
        request.context.timing = Timing()
        request.context.began_s = time.perf_counter()
        self._metrics.began()

    def process_resource(self, request: falcon.Request, _response: Any, _resource: object, _params: Any) -> None:
        """Refuse it, if it may not be."""
        path = f"{request.uri_template}{'?verbose' if 'verbose' in request.params else ''}"
        self._access.admit(request.method, path, request.auth, request.remote_addr)
        left = request.env.get("waitress.client_disconnected", lambda: False)
        goes_on = partial(self._access.goes_on, request.method, path, request.auth)
        request.context.ended = lambda: left() or not goes_on()  # for an answer that goes on

    def process_response(
        self, request: falcon.Request, response: falcon.Response, _resource: object, _succeeded: bool
    ) -> None:
        """Tell it, of an answer that goes on as far as its begin."""
        response.set_header("Server-Timing", request.context.timing.header())
        spent_s = time.perf_counter() - request.context.began_s
        spans.ended(request.context.span, response.status_code)
        self._metrics.ended(request.method, request.uri_template, response.status_code, spent_s)


class FacadeResource:
    """`/facade`: the interface that existing clients use."""

    def __init__(self, client: Client, slots: streams.Slots, intake: Intake) -> None:
        self._client = client
        self._slots = slots
        self._intake = intake

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Store one message; answered when it is stored."""
        text = self._intake.message(request.content_type, request.bounded_stream.read)
        stored = _store(self._intake, text, request, response)
        response.data = _json(schema.StoredOnce("success", stored.id))

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Stream all messages in the order of their ids; the first page is read before the status is sent."""
        first = self._client.page(after="", timing=request.context.timing)
        response.content_type = falcon.MEDIA_JSON
        response.set_header("X-Logging-Node", first.node)
        if request.method != "HEAD":
            _stream(response, streams.logs(self._client, first), self._slots if first.next else None)

    on_head = on_get


class MessagesResource:
    """`/v1/messages`: one or many in; a page, everything, or what comes out."""

    def __init__(self, client: Client, live: Live, slots: streams.Slots, intake: Intake) -> None:
        self._client = client
        self._live = live
        self._slots = slots
        self._intake = intake

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Store one message, or many."""
        found = self._intake.messages(request.content_type, request.bounded_stream.read)
        if isinstance(found, str):
            stored = _store(self._intake, found, request, response)
            response.status = falcon.HTTP_201
            response.location = f"/v1/messages/{stored.id}"
            response.data = _json(schema.Stored(stored.id, ids.time_text(stored.id)))
            return
        if request.get_header("Idempotency-Key") is not None:
            raise RequestError("Idempotency-Key belongs to one message: many have none")
        outcome = self._intake.store_all(found, request.context.timing)
        response.set_header("X-Logging-Node", ", ".join(outcome.nodes))
        if outcome.failure is None:
            response.data = _json({"results": outcome.results})
        else:
            _answer(response, 503, outcome.failure, results=outcome.results)

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """A page; everything that is asked for, as NDJSON; or what comes, as server-sent events."""
        last = request.get_header("Last-Event-ID")
        response.set_header("Vary", "Accept")
        match request.client_prefers((falcon.MEDIA_JSON, body.NDJSON, EVENTS)):
            case "text/event-stream":
                self._follow(request, response, last)
            case "application/x-ndjson":
                if "limit" in request.params:
                    raise RequestError(f"limit is for pages: {body.NDJSON} is all that there is")
                self._everything(request, response, query.parse(query.single(request.params)))
            case _:
                self._page(request, response, query.parse(query.single(request.params)))

    on_head = on_get

    def _page(self, request: falcon.Request, response: falcon.Response, wanted: query.Query) -> None:
        page = self._read(request, response, wanted, wanted.limit)
        response.data = _json(schema.MessagePage([streams.form(entry) for entry in page.entries], page.next))
        if page.next:
            response.append_link(f"/v1/messages?{wanted.following(page.next)}", "next")

    def _everything(self, request: falcon.Request, response: falcon.Response, wanted: query.Query) -> None:
        first = self._read(request, response, wanted, PAGE_MESSAGES)
        response.content_type = body.NDJSON
        if request.method != "HEAD":
            _stream(response, streams.ndjson(self._client, first, wanted), self._slots)

    def _follow(self, request: falcon.Request, response: falcon.Response, last: str | None) -> None:
        params = query.single(request.params)
        query.refuse_unknown(params, ("after",), f" for {EVENTS}")
        given = last or params.get("after")
        after = query.message_id(given, "Last-Event-ID" if last else "after") if given else None
        response.content_type = EVENTS
        response.cache_control = ["no-store"]
        ended = request.context.ended
        if request.method != "HEAD":
            events = streams.events(self._client, self._live, after=after, again=last is not None, ended=ended)
            _stream(response, events, self._slots)

    def _read(self, request: falcon.Request, response: falcon.Response, wanted: query.Query, limit: int) -> Page:
        page = self._client.page(
            wanted.after,
            before=wanted.before,
            limit=limit,
            newest_first=wanted.newest_first,
            timing=request.context.timing,
        )
        response.set_header("X-Logging-Node", page.node)
        return page


class MessageResource:
    """`/v1/messages/ID`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def on_get(self, request: falcon.Request, response: falcon.Response, message_id: str) -> None:
        """One message; 404 when two nodes say that it is not there."""
        found, node = self._client.find(query.message_id(message_id, "the id"), request.context.timing)
        response.set_header("X-Logging-Node", node)
        if found is None:
            raise MissingError(f"there is no message {message_id}")
        response.data = _json(streams.form(found))
        response.cache_control = ["max-age=31536000", "immutable"]

    on_head = on_get


class DocumentResource:
    """A whole answer, with an entity tag if it has one."""

    def __init__(self, make: Make) -> None:
        self._make = make

    def on_get(self, request: falcon.Request, response: falcon.Response, **found: str) -> None:
        """The document; 304 without it for a client that has it."""
        document = self._make({**request.params, **found})
        response.status = falcon.code_to_http_status(document.status)
        response.content_type = document.media_type
        response.set_headers(document.headers)
        if document.gzipped:
            response.append_header("Vary", "Accept-Encoding")
        if document.etag:
            response.etag = falcon.ETag.loads(f'{"W/" if document.weak else ""}"{document.etag}"')
            if any(known in ("*", document.etag) for known in request.if_none_match or ()):
                response.status = falcon.HTTP_304
                return
        response.data = document.body
        if document.gzipped and "gzip" in (request.get_header("Accept-Encoding") or ""):
            response.data = document.gzipped
            response.set_header("Content-Encoding", "gzip")

    on_head = on_get


def _store(intake: Intake, text: str, request: falcon.Request, response: falcon.Response) -> Stored:
    """Store one message, and say in the headers by which node, and whether it was there."""
    stored = intake.store(text, request.get_header("Idempotency-Key"), request.context.timing)
    response.set_header("X-Logging-Node", stored.node)
    if stored.replayed:
        response.set_header("Idempotent-Replayed", "true")
    return stored


def _stream(response: falcon.Response, chunks: Generator[bytes, None, None], slots: streams.Slots | None) -> None:
    """Answer with chunks; in a slot, if it needs one."""
    if slots and not slots.take():
        raise OverloadError(f"{slots.count} streams are open, which is the limit")
    response.stream = streams.Stream(chunks, slots.give_back if slots else lambda: None)


_json = msgspec.json.encode


def _on_error(_request: Any, response: falcon.Response, error: ThreefoldError, _params: Any) -> None:
    more = {"uuid": error.message_id} if isinstance(error, OutcomeUnknownError) else {}
    if (status := problem.status_of(error)) >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request failed", status=status, reason=error)
    else:
        log.info("request refused", status=status, reason=error)
    _answer(response, status, str(error), **more)
    if isinstance(error, RateError):
        response.set_header("Retry-After", str(error.retry_after_s))


def _on_defect(_request: Any, response: falcon.Response, error: Exception, _params: Any) -> None:
    log.error("a request broke: a defect of ours", exc_info=error)
    _answer(response, 500, "internal error")


def _serialize_http_error(request: falcon.Request, response: falcon.Response, error: falcon.HTTPError) -> None:
    """Falcon's own errors: an unknown path, a method that is not allowed."""
    match error:
        case falcon.HTTPNotFound():
            message = f"there is nothing at {request.path}"
        case falcon.HTTPMethodNotAllowed():
            message = f"{request.method} is not allowed for {request.path}"
        case _:
            message = error.description or error.title or ""
    _answer(response, error.status_code, message)


def _answer(response: falcon.Response, status: int, message: str, **more: Any) -> None:
    response.status = falcon.code_to_http_status(status)
    response.data = problem.body(status, message, **more)
    response.set_headers(problem.headers(status))
