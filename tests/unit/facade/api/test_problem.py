"""Tests of facade.api.problem: the HTTP status of each error."""

import json

from common.errors import OutcomeUnknownError, ThreefoldError
from common.telemetry import request_context
from facade.api import problem


def test_every_status_for_clients_belongs_to_an_error_of_ours() -> None:
    """The table has all statuses that clients get, and only errors of the error tree."""
    assert {400, 401, 403, 404, 413, 415, 421, 422, 429, 503} == set(problem.STATUS.values())
    assert all(issubclass(kind, ThreefoldError) for kind in problem.STATUS)


def test_a_problem_of_v1_is_that_of_rfc_9457() -> None:
    """It has a type URI, a numeric status and a detail; `message` repeats the detail for older clients."""
    kind = problem.type_of(OutcomeUnknownError("id", "no reply"))
    with request_context.use(None):
        members = json.loads(problem.body(503, "a sentence", path="/v1/messages", kind=kind))

    assert {
        "type": "urn:problem-type:threefold:outcome-unknown",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "a sentence",
        "message": "a sentence",
    } == members


def test_a_problem_of_facade_is_that_of_the_first_version() -> None:
    """Clients of `/facade` have parsed `status: failure` from the first version on."""
    with request_context.use(None):
        members = json.loads(problem.body(503, "a sentence", path="/facade", kind=problem.TYPE + "overload"))

    assert {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": "failure",
        "message": "a sentence",
    } == members
