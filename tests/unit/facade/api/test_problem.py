"""Tests of facade.api.problem: the HTTP status of each error."""

from common.errors import ThreefoldError
from facade.api import problem


def test_every_status_for_clients_belongs_to_an_error_of_ours() -> None:
    """The table has all statuses that clients get, and only errors of the error tree."""
    assert {400, 401, 403, 404, 413, 415, 422, 429, 503} == set(problem.STATUS.values())
    assert all(issubclass(kind, ThreefoldError) for kind in problem.STATUS)
