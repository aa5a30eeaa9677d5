"""Tests of facade.server.load_shedding: the decision about a request, and the refusal."""

import json

import pytest

from facade.api import problem
from facade.server import load_shedding
from facade.server.load_shedding import Admission, decide


@pytest.mark.parametrize(
    ("expected", "exempt", "unread", "spare", "free", "waiting"),
    [
        (Admission.RUN, False, False, False, 1, 0),
        (Admission.RUN, False, True, False, 1, 0),
        (Admission.WAIT, False, False, False, 0, 1),
        (Admission.REFUSE, False, False, False, 0, 2),
        (Admission.REFUSE, False, False, True, 1, 0),
        (Admission.CLOSE, False, True, True, 1, 0),
        (Admission.CLOSE, False, True, False, 0, 2),
        (Admission.AT_ONCE, True, False, False, 0, 2),
        (Admission.AT_ONCE, True, False, True, 0, 2),
        (Admission.CLOSE, True, True, False, 0, 2),
        (Admission.WAIT, True, True, False, 0, 1),
    ],
)
def test_each_combination_has_its_admission(
    expected: Admission, *, exempt: bool, unread: bool, spare: bool, free: int, waiting: int
) -> None:
    """Health checks start under any load; others run, wait up to the limit of two, and are refused beyond it."""
    found = decide(exempt=exempt, unread=unread, spare=spare, free=free, waiting=waiting, queued=2)

    assert expected is found


def test_a_refusal_is_a_complete_response_that_keeps_the_connection() -> None:
    """It has its length, Retry-After, the problem document, and the request id that the client sent."""
    head, _, body = load_shedding.refusal("/v1/messages", {"HOST": "x", "X_REQUEST_ID": "mine"}, "too many").partition(
        b"\r\n\r\n"
    )
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])

    assert (len(body), "1", problem.MEDIA_TYPE) == (
        int(headers["Content-Length"]),
        headers["Retry-After"],
        headers["Content-Type"],
    )
    assert ("too many", "mine") == (json.loads(body)["message"], json.loads(body)["request_id"])
    assert "mine" == headers["X-Request-ID"]
    assert "Connection" not in headers
