"""The format of error responses: RFC 9457, with the members `status` and `message` that older clients read.

A problem document also has the request id and the trace, so that the request can be found in the logs.
"""

import http
import json
from typing import Any

from common.errors import (
    ForbiddenError,
    KeyConflictError,
    MediaTypeError,
    MissingError,
    OutcomeUnknownError,
    OverloadError,
    RateError,
    RequestError,
    ThreefoldError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
)
from common.telemetry import request_context

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1  # with every 503: a killed node interrupts for less, a restarted cluster for 6 s

SECURITY = (  # headers of every response; the web pages have their own policy
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
)

STATUS: dict[type[ThreefoldError], int] = {
    RequestError: 400,
    UnauthenticatedError: 401,
    ForbiddenError: 403,
    MissingError: 404,
    TooLargeError: 413,
    MediaTypeError: 415,
    KeyConflictError: 422,
    RateError: 429,
    UnavailableError: 503,
    OutcomeUnknownError: 503,
    OverloadError: 503,
}


def status_of(error: ThreefoldError) -> int:
    """The HTTP status of an error; 500 for an error without one."""
    return STATUS.get(type(error), 500)


def body(status: int, message: str, **more: Any) -> bytes:
    """A problem document; `more` are further members, such as `uuid` of a message that may still be stored."""
    members = {
        "type": "about:blank",
        "title": http.HTTPStatus(status).phrase,
        "status": "failure",
        "message": message,
        **(source._asdict() if (source := request_context.current()) else {}),
        **more,
    }
    return json.dumps(members, ensure_ascii=False).encode("utf-8", "replace")


def headers(status: int) -> list[tuple[str, str]]:
    """The headers of a problem document of this status."""
    result = [("Content-Type", MEDIA_TYPE)]
    match status:
        case http.HTTPStatus.SERVICE_UNAVAILABLE | http.HTTPStatus.TOO_MANY_REQUESTS:
            result.append(("Retry-After", str(RETRY_AFTER_S)))
        case http.HTTPStatus.UNAUTHORIZED:
            result.append(("WWW-Authenticate", 'Bearer realm="threefold"'))
        case http.HTTPStatus.FORBIDDEN:
            result.append(("WWW-Authenticate", 'Bearer realm="threefold", error="insufficient_scope"'))
    return result
