"""The Falcon application: its routes, what is done for each request, and how errors are answered."""

import time
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Any

import falcon
import structlog

from common import origin, spans
from common.errors import OutcomeUnknownError, RateError, ThreefoldError
from facade.api import problem
from facade.api.intake import Intake
from facade.api.resources import DocumentResource, FacadeResource, MessageResource, MessagesResource, answer
from facade.auth.access import Access
from facade.client.client import Client
from facade.documents.documents import Make
from facade.status.metrics import FacadeMetrics
from facade.streams import responses
from facade.streams.subscriptions import Live
from facade.timing import Timing

log = structlog.get_logger()


def create_app(
    client: Client,
    live: Live,
    slots: responses.Slots,
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
    access = access or Access()
    app = falcon.App(middleware=[Middleware(metrics, access)])
    app.req_options.keep_blank_qs_values = True
    app.set_error_serializer(_serialize_http_error)
    app.add_error_handler(Exception, _on_defect)
    app.add_error_handler(ThreefoldError, _on_error)
    intake = intake or Intake(client)
    look_s = responses.LOOK_S if access.may_be_revoked else responses.BEAT_S
    app.add_route("/facade", FacadeResource(client, slots, intake))
    app.add_route("/v1/messages", MessagesResource(client, live, slots, intake, look_s=look_s))
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


def _on_error(_request: Any, response: falcon.Response, error: ThreefoldError, _params: Any) -> None:
    more = {"uuid": error.message_id} if isinstance(error, OutcomeUnknownError) else {}
    if (status := problem.status_of(error)) >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request failed", status=status, reason=error)
    else:
        log.info("request refused", status=status, reason=error)
    answer(response, status, str(error), **more)
    if isinstance(error, RateError):
        response.set_header("Retry-After", str(error.retry_after_s))


def _on_defect(_request: Any, response: falcon.Response, error: Exception, _params: Any) -> None:
    log.error("a request broke: a defect of ours", exc_info=error)
    answer(response, 500, "internal error")


def _serialize_http_error(request: falcon.Request, response: falcon.Response, error: falcon.HTTPError) -> None:
    """Falcon's own errors: an unknown path, a method that is not allowed."""
    match error:
        case falcon.HTTPNotFound():
            message = f"there is nothing at {request.path}"
        case falcon.HTTPMethodNotAllowed():
            message = f"{request.method} is not allowed for {request.path}"
        case _:
            message = error.description or error.title or ""
    answer(response, error.status_code, message)
