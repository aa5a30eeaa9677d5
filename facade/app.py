"""HTTP on one side, `facade.client` on the other: the only module that imports falcon."""

import json
import logging
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import falcon

from common import ids
from common.errors import (
    KeyConflictError,
    MediaTypeError,
    OutcomeUnknownError,
    RequestError,
    ServiceError,
    ThreefoldError,
    TooLargeError,
    UnavailableError,
)
from common.wire import Entry, Page
from facade import body, problem
from facade.client import Client

log = logging.getLogger(__name__)

NO_DESCRIPTION = "messages-service is not available"  # in the place of its text, so that the log can still be read
STATUS_BY_ERROR: dict[type[ThreefoldError], int] = {
    RequestError: 400,
    TooLargeError: 413,
    MediaTypeError: 415,
    KeyConflictError: 422,
    UnavailableError: 503,
    OutcomeUnknownError: 503,
}


def create_app(
    client: Client, *, new_id: Callable[[], str] = ids.new_id
) -> "falcon.App[falcon.Request, falcon.Response]":
    """The WSGI application.

    Args:
        client: asks the other services.
        new_id: makes message ids whose order is the order of time.
    """
    app = falcon.App()
    app.set_error_serializer(_serialize_http_error)
    app.add_error_handler(Exception, _on_defect)
    app.add_error_handler(ThreefoldError, _on_error)
    app.add_route("/facade", FacadeResource(client, new_id))
    return app


class FacadeResource:
    """`/facade`: the interface that existing clients use."""

    def __init__(self, client: Client, new_id: Callable[[], str]) -> None:
        self._client = client
        self._new_id = new_id

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Store one message; answered when it is stored."""
        text = body.message(request.content_type, request.bounded_stream.read(body.BODY_BYTES + 1))
        key = body.idempotency_key(request.get_header("Idempotency-Key"))
        stored = self._client.append(self._new_id(), text, key)
        response.set_header("X-Logging-Node", stored.node)
        if stored.replayed:
            response.set_header("Idempotent-Replayed", "true")
        response.data = _json({"status": "success", "uuid": stored.id})

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Stream all messages in the order of their ids; the first page is read before the status is sent."""
        first = self._client.page(after="")
        response.content_type = falcon.MEDIA_JSON
        response.set_header("X-Logging-Node", first.node)
        response.stream = self._stream(first)

    on_head = on_get  # falcon leaves the body away

    def _stream(self, first: Page) -> Iterator[bytes]:
        yield b'{"logs":['
        yield _texts(first.entries)
        after = first.next
        while after is not None:
            page = self._next_page(after)
            if page.entries:
                yield b"," + _texts(page.entries)
            after = page.next
        yield b'],"message":' + _json(self._description()) + b"}"

    def _next_page(self, after: str) -> Page:
        try:
            return self._client.page(after)
        except ServiceError as error:
            log.error("a read of all messages broke off after=%s reason=%s", after, error)  # noqa: TRY400 (expected)
            # The status is sent already: only a broken connection can still say that the body is not whole.
            raise ConnectionAbortedError(str(error)) from error

    def _description(self) -> str:
        try:
            return self._client.description()
        except ServiceError as error:
            log.warning("no text of the messages service reason=%s", error)
            return NO_DESCRIPTION


def _texts(entries: tuple[Entry, ...]) -> bytes:
    return _json([entry.msg for entry in entries])[1:-1]


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _on_error(_request: Any, response: falcon.Response, error: ThreefoldError, _params: Any) -> None:
    message_id = error.message_id if isinstance(error, OutcomeUnknownError) else None
    if (status := STATUS_BY_ERROR.get(type(error), 500)) >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request failed status=%s reason=%s", status, error)
    _answer(response, status, str(error), message_id)


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


def _answer(response: falcon.Response, status: int, message: str, message_id: str | None = None) -> None:
    response.status = falcon.code_to_http_status(status)
    response.data = problem.body(status, message, message_id)
    for name, value in problem.headers(status):
        response.set_header(name, value)
