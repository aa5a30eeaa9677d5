"""Middleware and error handlers: request context, metrics, permission, and the format of errors."""

import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

import falcon
import structlog

from common.errors import OutcomeUnknownError, RateError, ThreefoldError
from common.telemetry import request_context, tracing
from common.telemetry.timing import Timing
from facade.api import problem
from facade.auth.access import Access
from facade.status.metrics import FacadeMetrics

log = structlog.get_logger()


class Middleware:
    """Counts requests, checks their permission, and adds the headers that every response has.

    Args:
        metrics: counts requests.
        access: decides which requests are allowed.
        clock: seconds from any start.
    """

    def __init__(
        self, metrics: FacadeMetrics, access: Access, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._clock = clock
        self._metrics = metrics
        self._access = access

    def process_request(self, request: falcon.Request, response: falcon.Response) -> None:
        """Set the request context, and start the clock and the span of the request."""
        request_id, traceparent = request.get_header("X-Request-ID"), request.get_header("traceparent")
        request.context.span = tracing.start_request(f"HTTP {request.method}", request_id, traceparent)
        if context := request_context.current():
            response.set_header("X-Request-ID", context.request_id)
        response.set_headers(problem.SECURITY)
        request.context.timing = Timing()
        request.context.began_s = self._clock()
        self._metrics.request_began()

    def process_resource(self, request: falcon.Request, _response: Any, _resource: object, _params: Any) -> None:
        """Check the permission, and provide `must_end`, by which a stream finds out that it has to end.

        Raises: see `Access.check`.
        """
        path = f"{request.uri_template}{'?verbose' if 'verbose' in request.params else ''}"
        self._access.check(request.method, path, request.auth, request.remote_addr)
        client_left = request.env.get("waitress.client_disconnected", lambda: False)
        is_allowed = partial(self._access.is_allowed, request.method, path, request.auth)
        request.context.must_end = lambda: client_left() or not is_allowed()

    def process_response(
        self, request: falcon.Request, response: falcon.Response, _resource: object, _succeeded: bool
    ) -> None:
        """Record status and duration; for a stream, the time up to its first byte."""
        response.set_header("Server-Timing", request.context.timing.header())
        spent_s = self._clock() - request.context.began_s
        tracing.end_request(request.context.span, response.status_code)
        self._metrics.request_ended(request.method, request.uri_template, response.status_code, spent_s)


def on_error(_request: Any, response: falcon.Response, error: ThreefoldError, _params: Any) -> None:
    """Answer one of our own errors with its HTTP status."""
    more = {"uuid": error.message_id} if isinstance(error, OutcomeUnknownError) else {}
    if (status := problem.status_of(error)) >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request failed", status=status, reason=error)
    else:
        log.info("request refused", status=status, reason=error)
    set_problem(response, status, str(error), **more)
    if isinstance(error, RateError):
        response.set_header("Retry-After", str(error.retry_after_s))


def on_defect(_request: Any, response: falcon.Response, error: Exception, _params: Any) -> None:
    """Log an unexpected exception, and answer 500 without its details."""
    log.error("unexpected exception in a request", exc_info=error)
    set_problem(response, 500, "internal error")


def on_http_error(request: falcon.Request, response: falcon.Response, error: falcon.HTTPError) -> None:
    """Answer one of Falcon's own errors, such as an unknown path or a method that is not allowed."""
    match error:
        case falcon.HTTPNotFound():
            message = f"there is nothing at {request.path}"
        case falcon.HTTPMethodNotAllowed():
            message = f"{request.method} is not allowed for {request.path}"
        case _:
            message = error.description or error.title or ""
    set_problem(response, error.status_code, message)


def set_problem(response: falcon.Response, status: int, message: str, **more: Any) -> None:
    """Turn a response into a problem document; `more` are further members."""
    response.status = falcon.code_to_http_status(status)
    response.data = problem.body(status, message, **more)
    response.set_headers(problem.headers(status))
