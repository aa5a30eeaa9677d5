"""The Falcon resources: parse requests, call `facade.client`, and form responses."""

from collections.abc import Generator

import falcon
import msgspec

from common import ids
from common.config import Limits
from common.errors import MissingError, OverloadError, RequestError, ServiceError
from common.protocol.content import Entry
from common.protocol.messages import PAGE_MESSAGES, Page
from facade.api import batch, body, middleware, query, schema
from facade.api.content import coding, otlp
from facade.api.content.draft import Draft
from facade.api.content.entries import EntryMaker
from facade.api.openapi.operations import EVENTS
from facade.client.appends import Acknowledgement
from facade.client.client import Client
from facade.server.scheduler import CONNECTION_CLOSED
from facade.streams import responses
from facade.streams.subscriptions import Subscriptions


class FacadeResource:
    """`/facade`: the interface for existing clients.

    Args:
        client, streams, limits: see `facade.app.create_app`.
        maker: makes messages from drafts.
    """

    def __init__(
        self, client: Client, streams: responses.StreamSemaphore, *, limits: Limits, maker: EntryMaker
    ) -> None:
        self._client = client
        self._streams = streams
        self._limits = limits
        self._maker = maker

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Store one message; the response is sent when it is stored."""
        draft = body.message(request.content_type, _content(request, self._limits.body_bytes), self._limits)
        entry = self._maker.entry(_with_key(draft, request, self._limits), request.context.client)
        stored = _append(self._client, entry, request, response)
        response.data = _json(schema.StoredReply("success", stored.id))

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Stream all messages in the order of their ids; the first page is read before the status is sent."""
        first = self._client.page(after="", timing=request.context.timing)
        response.content_type = falcon.MEDIA_JSON
        response.set_header("X-Logging-Node", first.node)
        _stream(request, response, responses.logs(self._client, first), self._streams if first.next else None)

    on_head = on_get


class MessagesResource:
    """`/v1/messages`: stores one or many messages; returns a page, all messages, or new messages as they arrive.

    Args:
        client, subscriptions, streams, limits: see `facade.app.create_app`.
        maker: makes messages from drafts.
        check_interval_s: see `facade.streams.responses.events`.
    """

    def __init__(
        self,
        client: Client,
        subscriptions: Subscriptions,
        streams: responses.StreamSemaphore,
        *,
        limits: Limits,
        maker: EntryMaker,
        check_interval_s: float,
    ) -> None:
        self._client = client
        self._subscriptions = subscriptions
        self._streams = streams
        self._limits = limits
        self._maker = maker
        self._check_interval_s = check_interval_s

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Store one message, or a batch."""
        shape = query.shape(query.single(request.params))
        content = _content(request, self._limits.batch_bytes)
        drafts = body.messages(request.content_type, content, self._limits, shape)
        if isinstance(drafts, Draft):
            self._post_one(request, response, drafts)
        else:
            self._post_batch(request, response, drafts)

    def _post_one(self, request: falcon.Request, response: falcon.Response, draft: Draft) -> None:
        entry = self._maker.entry(_with_key(draft, request, self._limits), request.context.client)
        stored = _append(self._client, entry, request, response)
        response.status = falcon.HTTP_201
        response.location = f"/v1/messages/{stored.id}"
        response.data = _json(schema.StoredMessage(stored.id, ids.time_text(stored.id)))

    def _post_batch(
        self, request: falcon.Request, response: falcon.Response, drafts: list[Draft | RequestError]
    ) -> None:
        if request.get_header("Idempotency-Key") is not None:
            raise RequestError("Idempotency-Key belongs to one message; give each message of a batch a key of its own")
        entries = self._maker.entries(drafts, request.context.client)
        outcome = batch.store_batch(self._client, entries, request.context.timing)
        response.set_header("X-Logging-Node", ", ".join(outcome.nodes))
        if outcome.error is None:
            response.data = _json({"results": outcome.results})
        else:
            middleware.set_error(request, response, outcome.error, results=outcome.results)

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with a page, with all matching messages as NDJSON, or with new ones as server-sent events."""
        last = request.get_header("Last-Event-ID")
        response.append_header("Vary", "Accept, Accept-Encoding")
        match request.client_prefers((falcon.MEDIA_JSON, body.NDJSON, EVENTS)):
            case "text/event-stream":
                self._follow(request, response, last)
            case "application/x-ndjson":
                if "limit" in request.params:
                    raise RequestError(f"limit is for pages: {body.NDJSON} has no limit")
                self._everything(request, response, query.parse(query.single(request.params)))
            case _:
                self._page(request, response, query.parse(query.single(request.params)))

    on_head = on_get

    def _page(self, request: falcon.Request, response: falcon.Response, wanted: query.Query) -> None:
        page = self._read(request, response, wanted, wanted.limit)
        if wanted.search:
            page = responses.searched(self._client, page, wanted)
        response.data = _json(schema.MessagePage([responses.message_body(entry) for entry in page.entries], page.next))
        if page.next:
            response.append_link(f"/v1/messages?{wanted.following(page.next)}", "next")

    def _everything(self, request: falcon.Request, response: falcon.Response, wanted: query.Query) -> None:
        first = self._read(request, response, wanted, PAGE_MESSAGES)
        response.content_type = body.NDJSON
        _stream(request, response, responses.ndjson(self._client, first, wanted), self._streams)

    def _follow(self, request: falcon.Request, response: falcon.Response, last: str | None) -> None:
        params = query.single(request.params)
        query.refuse_unknown(params, ("after", *query.SEARCH), f" for {EVENTS}")
        given = last or params.get("after")
        after = query.message_id(given, "Last-Event-ID" if last else "after") if given else None
        response.content_type = EVENTS
        response.cache_control = ["no-store"]
        response.set_header("X-Accel-Buffering", "no")  # else nginx holds events back until 4 KiB have come
        events = responses.events(
            self._client,
            self._subscriptions,
            after=after,
            reconnected=last is not None,
            search=query.search(params),
            must_end=request.context.must_end,
            closed=request.env.get(CONNECTION_CLOSED),
            check_interval_s=self._check_interval_s,
        )
        _stream(request, response, events, self._streams)

    def _read(self, request: falcon.Request, response: falcon.Response, wanted: query.Query, limit: int) -> Page:
        page = self._client.page(
            wanted.after,
            before=wanted.before,
            limit=limit,
            newest_first=wanted.newest_first,
            search=wanted.search,
            timing=request.context.timing,
        )
        response.set_header("X-Logging-Node", page.node)
        return page


class MessageResource:
    """`/v1/messages/{message_id}`: one message."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def on_get(self, request: falcon.Request, response: falcon.Response, message_id: str) -> None:
        """Answer with one message, or with 404."""
        entry, node = self._client.find(query.message_id(message_id, "the id"), request.context.timing)
        response.set_header("X-Logging-Node", node)
        if entry is None:
            raise MissingError(f"there is no message {message_id}")
        response.data = _json(responses.message_body(entry))
        response.cache_control = ["max-age=31536000", "immutable"]

    on_head = on_get


class LogsResource:
    """`/v1/logs`: takes log records from exporters of OpenTelemetry.

    Args:
        client, limits: see `facade.app.create_app`.
        maker: makes messages from drafts.
    """

    def __init__(self, client: Client, *, limits: Limits, maker: EntryMaker) -> None:
        self._client = client
        self._limits = limits
        self._maker = maker

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Store the records; the answer counts those that are not valid."""
        content = body.within(_content(request, self._limits.batch_bytes), self._limits.batch_bytes)
        drafts = otlp.drafts(request.content_type, content, self._limits)
        entries = self._maker.entries(drafts, request.context.client)
        outcome = batch.store_batch(self._client, entries, request.context.timing)
        if isinstance(outcome.error, ServiceError):
            raise outcome.error
        response.set_header("X-Logging-Node", ", ".join(outcome.nodes))
        response.content_type, response.data = otlp.response(request.content_type, outcome.refused)


def _with_key(draft: Draft, request: falcon.Request, limits: Limits) -> Draft:
    """The draft with the key in the header of its request, if there is one."""
    if (header := request.get_header("Idempotency-Key")) is None:
        return draft
    key = body.idempotency_key(header, limits)
    if draft.key and draft.key != key:
        raise RequestError("Idempotency-Key and the key in the message differ; give one of them")
    return draft._replace(key=key)


def _append(client: Client, entry: Entry, request: falcon.Request, response: falcon.Response) -> Acknowledgement:
    """Store one message; set the headers that name the node and mark a repeated idempotency key."""
    stored = client.append(entry, request.context.timing)
    response.set_header("X-Logging-Node", stored.node)
    if stored.replayed:
        response.set_header("Idempotent-Replayed", "true")
    return stored


def _content(request: falcon.Request, limit_bytes: int) -> bytes:
    """The body of a request without its content coding, at most one byte over the limit."""
    content: bytes = request.bounded_stream.read(limit_bytes + 1)
    return coding.decoded(content, request.get_header("Content-Encoding"), limit_bytes)


def _stream(
    request: falcon.Request,
    response: falcon.Response,
    chunks: Generator[bytes, None, None],
    streams: responses.StreamSemaphore | None,
) -> None:
    """Stream chunks, as gzip if the client asks for it; nothing for HEAD, whose response has no length either.

    Raises:
        OverloadError: `streams` has none left. None: this stream is not counted.
    """
    if request.method == "HEAD":
        response.stream = iter(())
        return
    if streams and not streams.acquire():
        raise OverloadError(f"{streams.limit} streams are open, which is the limit")
    compress = coding.accepts(request.get_header("Accept-Encoding"), coding.GZIP)
    release = streams.release if streams else lambda: None
    response.stream = responses.Stream(coding.compressed(chunks) if compress else chunks, release)
    if compress:  # only now: an error in the first chunk is answered without a coding
        response.set_header("Content-Encoding", coding.GZIP)


_json = msgspec.json.encode
