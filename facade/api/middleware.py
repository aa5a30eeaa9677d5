"""Middleware and error handlers: request context, metrics, permission, and the format of errors."""

import difflib
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

import falcon
import structlog

from common.errors import (
    ForbiddenError,
    MediaTypeError,
    MissingError,
    OutcomeUnknownError,
    RateError,
    ThreefoldError,
)
from common.telemetry import request_context, tracing
from common.telemetry.timing import Timing
from facade.api import problem
from facade.api.content import coding
from facade.api.openapi.operations import OPERATIONS
from facade.auth.access import Access
from facade.auth.origins import Origins, cors_headers, preflight_headers
from facade.status.metrics import FacadeMetrics

log = structlog.get_logger()

KNOWN_PATHS = [path for path in OPERATIONS if "{" not in path]  # one of them is suggested for an unknown path


class Middleware:
    """Counts requests, checks their permission, and adds the headers that every response has.

    Args:
        metrics: counts requests.
        access: decides which requests are allowed.
        origins: decides which pages of other sites may use this facade.
        clock: seconds from any start.
    """

    def __init__(
        self,
        metrics: FacadeMetrics,
        access: Access,
        origins: Origins,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._origins = origins
        self._clock = clock
        self._metrics = metrics
        self._access = access

    def process_request(self, request: falcon.Request, response: falcon.Response) -> None:
        """Set the request context, start the clock and the span of the request, and refuse pages of other sites.

        Raises: see `Origins.check`; MissingError for a path with a slash at its end.
        """
        headers = (request.get_header(name) for name in ("X-Request-ID", "traceparent", "tracestate"))
        request.context.span = tracing.start_request(f"HTTP {request.method}", *headers)
        if context := request_context.current():
            response.set_header("X-Request-ID", context.request_id)
        response.set_headers(problem.SECURITY)
        request.context.timing = Timing()
        request.context.began_s = self._clock()
        self._metrics.request_began()
        origin = request.get_header("Origin")
        if self._origins.others_allowed:
            response.append_header("Vary", "Origin")
        if origin and self._origins.is_allowed(origin):
            _allow_origin(request, response, origin)
        self._origins.check(request.method, request.get_header("Host"), origin, request.get_header("Sec-Fetch-Site"))
        if len(request.path) > 1 and request.path.endswith("/"):
            raise MissingError(f"there is nothing at {request.path[:100]}: the path ends without a slash")

    def process_resource(self, request: falcon.Request, _response: Any, _resource: object, _params: Any) -> None:
        """Check the permission, and provide `must_end`, by which a stream finds out that it has to end.

        Raises: see `Access.check`.
        """
        path = f"{request.uri_template}{'?verbose' if 'verbose' in request.params else ''}"
        request.context.client = self._access.check(request.method, path, request.auth, request.remote_addr)
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


def _allow_origin(request: falcon.Request, response: falcon.Response, origin: str) -> None:
    """Let a page of an allowed origin read the response; answer the browser that asks before it sends a request."""
    response.set_headers(cors_headers(origin))
    if request.method == "OPTIONS" and request.get_header("Access-Control-Request-Method"):
        response.set_headers(preflight_headers())
        response.status = falcon.HTTP_204
        response.complete = True


def on_error(request: falcon.Request, response: falcon.Response, error: ThreefoldError, _params: Any) -> None:
    """Answer one of our own errors with its HTTP status."""
    more = {"uuid": error.message_id} if isinstance(error, OutcomeUnknownError) else {}
    if (status := problem.status_of(error)) >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request failed", status=status, reason=error)
    else:
        log.info("request refused", status=status, reason=error)
    set_error(request, response, error, **more)
    match error:
        case RateError():
            response.set_header("Retry-After", str(error.retry_after_s))
        case ForbiddenError():
            response.set_header("WWW-Authenticate", 'Bearer realm="threefold", error="insufficient_scope"')
        case MediaTypeError():
            response.set_header("Accept-Encoding", ", ".join(coding.TAKEN))


def on_defect(request: falcon.Request, response: falcon.Response, error: Exception, _params: Any) -> None:
    """Log an unexpected exception, and answer 500 without its details."""
    log.error("unexpected exception in a request", exc_info=error)
    set_problem(request, response, 500, "internal error")


def on_http_error(request: falcon.Request, response: falcon.Response, error: falcon.HTTPError) -> None:
    """Answer one of Falcon's own errors, such as an unknown path or a method that is not allowed."""
    match error:
        case falcon.HTTPNotFound():
            near = difflib.get_close_matches(request.path, KNOWN_PATHS, n=1)
            message = f"there is nothing at {request.path[:100]}{f'; did you mean {near[0]}?' if near else ''}"
        case falcon.HTTPMethodNotAllowed():
            message = f"{request.method} is not allowed for {request.path}"
        case _:
            message = error.description or error.title or ""
    set_problem(request, response, error.status_code, message)


def set_error(request: falcon.Request, response: falcon.Response, error: ThreefoldError, **more: Any) -> None:
    """Turn a response into the problem document of an error; `more` are further members."""
    set_problem(request, response, problem.status_of(error), str(error), kind=problem.type_of(error), **more)


def set_problem(
    request: falcon.Request,
    response: falcon.Response,
    status: int,
    message: str,
    *,
    kind: str = problem.ABOUT_BLANK,
    **more: Any,
) -> None:
    """Turn a response into a problem document; for the arguments see `problem.body`."""
    response.status = falcon.code_to_http_status(status)
    response.data = problem.body(status, message, path=request.path, kind=kind, **more)
    response.set_headers(problem.headers(status))
