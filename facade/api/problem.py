"""The format of error responses: RFC 9457, and on `/facade` the older form with `status: failure` and `message`.

A problem document also has the request id and the trace, so that the request can be found in the logs.
"""

import http
import json
import re
from typing import Any

from common.errors import (
    CrossSiteError,
    ForbiddenError,
    KeyConflictError,
    MediaTypeError,
    MisdirectedError,
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
    CrossSiteError: 403,
    MissingError: 404,
    TooLargeError: 413,
    MediaTypeError: 415,
    MisdirectedError: 421,
    KeyConflictError: 422,
    RateError: 429,
    UnavailableError: 503,
    OutcomeUnknownError: 503,
    OverloadError: 503,
}


TYPE, ABOUT_BLANK = "urn:problem-type:threefold:", "about:blank"
LEGACY_PATH = "/facade"  # its problem documents are those that clients have parsed from the first version on


def status_of(error: ThreefoldError) -> int:
    """The HTTP status of an error; 500 for an error without one."""
    return STATUS.get(type(error), 500)


def type_of(error: ThreefoldError) -> str:
    """The type URI of an error: TYPE with the name of its class, such as `outcome-unknown` for OutcomeUnknownError."""
    return TYPE + re.sub("(?<=[a-z])(?=[A-Z])", "-", type(error).__name__.removesuffix("Error")).lower()


def body(status: int, message: str, *, path: str = "", kind: str = ABOUT_BLANK, **more: Any) -> bytes:
    """A problem document.

    Args:
        status: the HTTP status.
        message: one sentence: what is wrong, and what is allowed.
        path: the path of the request, which decides about the form.
        kind: the type URI; `about:blank` if the status says all.
        more: further members, such as `uuid` of a message that may still be stored.
    """
    title = http.HTTPStatus(status).phrase
    members: dict[str, Any]
    if path == LEGACY_PATH:
        members = {"type": ABOUT_BLANK, "title": title, "status": "failure", "message": message}
    else:
        members = {"type": kind, "title": title, "status": status, "detail": message, "message": message}
    context = source.fields() if (source := request_context.current()) else {}
    return json.dumps(members | context | more, ensure_ascii=False).encode("utf-8", "replace")


def headers(status: int) -> list[tuple[str, str]]:
    """The headers of a problem document of this status."""
    result = [("Content-Type", MEDIA_TYPE)]
    match status:
        case http.HTTPStatus.SERVICE_UNAVAILABLE | http.HTTPStatus.TOO_MANY_REQUESTS:
            result.append(("Retry-After", str(RETRY_AFTER_S)))
        case http.HTTPStatus.UNAUTHORIZED:
            result.append(("WWW-Authenticate", 'Bearer realm="threefold"'))
    return result
