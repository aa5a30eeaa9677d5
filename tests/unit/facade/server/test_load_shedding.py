"""Tests of facade.server.load_shedding: the cheapest refusal."""

import json

from facade.api import problem
from facade.server import load_shedding


def test_a_refusal_is_a_complete_response_that_keeps_the_connection() -> None:
    """It has its length, Retry-After, the problem document, and the request id that the client sent."""
    head, _, body = load_shedding.refusal({"HOST": "x", "X_REQUEST_ID": "mine"}, "too many").partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])

    assert (len(body), "1", problem.MEDIA_TYPE) == (
        int(headers["Content-Length"]),
        headers["Retry-After"],
        headers["Content-Type"],
    )
    assert ("too many", "mine") == (json.loads(body)["message"], json.loads(body)["request_id"])
    assert "mine" == headers["X-Request-ID"]
    assert "Connection" not in headers
