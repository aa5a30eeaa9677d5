"""The resources of the Falcon application: HTTP on one side, `facade.client` on the other."""

from collections.abc import Generator
from typing import Any

import falcon
import msgspec

from common import ids
from common.errors import MissingError, OverloadError, RequestError
from common.wire import PAGE_MESSAGES, Page, Stored
from facade.api import body, problem, query
from facade.api.intake import Intake
from facade.client.client import Client
from facade.documents import schema
from facade.documents.documents import Make
from facade.documents.operations import EVENTS
from facade.server.scheduler import GONE
from facade.streams import responses
from facade.streams.subscriptions import Live


class FacadeResource:
    """`/facade`: the interface that existing clients use."""

    def __init__(self, client: Client, slots: responses.Slots, intake: Intake) -> None:
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
            _stream(response, responses.logs(self._client, first), self._slots if first.next else None)

    on_head = on_get


class MessagesResource:
    """`/v1/messages`: one or many in; a page, everything, or what comes out.

    Args:
        client, live, slots, intake: see `facade.api.app.create_app`.
        look_s: see `facade.streams.responses.events`.
    """

    def __init__(self, client: Client, live: Live, slots: responses.Slots, intake: Intake, *, look_s: float) -> None:
        self._look_s = look_s
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
            answer(response, 503, outcome.failure, results=outcome.results)

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
        response.data = _json(schema.MessagePage([responses.form(entry) for entry in page.entries], page.next))
        if page.next:
            response.append_link(f"/v1/messages?{wanted.following(page.next)}", "next")

    def _everything(self, request: falcon.Request, response: falcon.Response, wanted: query.Query) -> None:
        first = self._read(request, response, wanted, PAGE_MESSAGES)
        response.content_type = body.NDJSON
        if request.method != "HEAD":
            _stream(response, responses.ndjson(self._client, first, wanted), self._slots)

    def _follow(self, request: falcon.Request, response: falcon.Response, last: str | None) -> None:
        params = query.single(request.params)
        query.refuse_unknown(params, ("after",), f" for {EVENTS}")
        given = last or params.get("after")
        after = query.message_id(given, "Last-Event-ID" if last else "after") if given else None
        response.content_type = EVENTS
        response.cache_control = ["no-store"]
        if request.method != "HEAD":
            events = responses.events(
                self._client,
                self._live,
                after=after,
                again=last is not None,
                ended=request.context.ended,
                gone=request.env.get(GONE),
                look_s=self._look_s,
            )
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
        response.data = _json(responses.form(found))
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


def _stream(response: falcon.Response, chunks: Generator[bytes, None, None], slots: responses.Slots | None) -> None:
    """Answer with chunks; in a slot, if it needs one."""
    if slots and not slots.take():
        raise OverloadError(f"{slots.count} streams are open, which is the limit")
    response.stream = responses.Stream(chunks, slots.give_back if slots else lambda: None)


_json = msgspec.json.encode


def answer(response: falcon.Response, status: int, message: str, **more: Any) -> None:
    """Answer with a problem document."""
    response.status = falcon.code_to_http_status(status)
    response.data = problem.body(status, message, **more)
    response.set_headers(problem.headers(status))
