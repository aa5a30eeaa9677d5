"""Tests of facade.auth.access: which requests are allowed, and how many."""

import threading
from functools import partial
from pathlib import Path

import pytest

from common.errors import ForbiddenError, RateError, UnauthenticatedError
from facade.api.openapi.operations import OPERATIONS
from facade.auth.access import Access
from facade.auth.tokens import Scope, Token, Tokens, digest_of
from scripts import tokens
from tests.support.waiting import ManualClock

# By the name of a token, which is also its secret.
SCOPES = {"reader": Scope.READ, "writer": Scope.WRITE, "boss": Scope.ADMIN}
RELOAD_S = 1.0  # within which a changed file counts


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with one token for each scope."""
    made = tmp_path / "tokens.toml"
    tokens.write(made, [Token(name, (scope,), digest_of(name)) for name, scope in SCOPES.items()])
    return made


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/messages", {"reader", "boss"}),
        ("HEAD", "/facade", {"reader", "boss"}),
        ("GET", "/v1/messages/{message_id}", {"reader", "boss"}),
        ("POST", "/facade", {"writer", "boss"}),
        ("POST", "/v1/messages", {"writer", "boss"}),
        ("GET", "/v1/cluster", {"boss"}),
        ("GET", "/metrics", {"boss"}),
        ("GET", "/v1/history", {"boss"}),
        ("GET", "/readyz?verbose", {"boss"}),
        ("GET", "/readyz", {*SCOPES, None}),
        ("GET", "/livez", {*SCOPES, None}),
        ("GET", "/", {*SCOPES, None}),
    ],
)
def test_a_token_allows_what_its_scope_says(file: Path, method: str, path: str, allowed: set[str | None]) -> None:
    """Each path needs a scope; a request without a token gets only the open paths, and another error."""
    access = Access(Tokens(file))

    def is_allowed(name: str | None) -> bool:
        try:
            access.check(method, path, f"Bearer {name}" if name else None, "127.0.0.1")
        except ForbiddenError:
            assert name
            return False
        except UnauthenticatedError:
            assert name is None
            return False
        return True

    assert allowed == {name for name in (*SCOPES, None) if is_allowed(name)}


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic boss", "boss", "Bearer no", "Bearer \udcff"])
def test_an_unknown_token_is_refused(file: Path, header: str | None) -> None:
    """A header without a known token is refused, however it looks."""
    with pytest.raises(UnauthenticatedError):
        Access(Tokens(file)).check("GET", "/facade", header, "127.0.0.1")


def test_without_a_token_file_every_request_is_allowed() -> None:
    """Tokens are optional."""
    for path, operations in OPERATIONS.items():
        for method in operations:
            Access().check(method.upper(), path, None, "127.0.0.1")


def test_a_stream_is_not_allowed_any_more_when_its_token_loses_the_scope(file: Path) -> None:
    """A stream must end when its token is removed or loses its scope; without a token file it goes on."""
    clock = ManualClock()
    access = Access(Tokens(file, clock=clock))
    may_follow = partial(access.is_allowed, "GET", "/v1/messages")
    assert may_follow("Bearer reader")
    assert may_follow("Bearer boss")
    tokens.write(file, [Token("reader", (Scope.WRITE,), digest_of("reader"))])
    clock.now_s += RELOAD_S

    assert not may_follow("Bearer reader")
    assert not may_follow("Bearer boss")
    assert Access().is_allowed("GET", "/v1/messages", None)


def test_each_client_has_a_rate_of_its_own(file: Path) -> None:
    """A client is a token, or an address without one; health requests are not counted."""
    by_address, by_token = Access(None, "2/hour"), Access(Tokens(file), "2/hour")
    for access, header in ((by_address, None), (by_token, "Bearer boss")):
        for _ in range(2):
            access.check("POST", "/facade", header, "10.0.0.1")
        with pytest.raises(RateError) as refused:
            access.check("POST", "/facade", header, "10.0.0.1")
        assert 1 <= refused.value.retry_after_s <= 3_600
        access.check("GET", "/livez", header, "10.0.0.1")
    by_address.check("POST", "/facade", None, "10.0.0.2")
    by_token.check("POST", "/facade", "Bearer writer", "10.0.0.1")


def test_a_client_that_waits_as_long_as_it_is_told_is_allowed_again() -> None:
    """The seconds in the error suffice; this waits for one real second."""
    access = Access(None, "1/second")
    access.check("POST", "/facade", None, "10.0.0.1")
    with pytest.raises(RateError) as refused:
        access.check("POST", "/facade", None, "10.0.0.1")
    threading.Event().wait(refused.value.retry_after_s)
    access.check("POST", "/facade", None, "10.0.0.1")


@pytest.mark.parametrize(
    ("header", "refusal"), [("Bearer no", UnauthenticatedError), ("Bearer reader", ForbiddenError)]
)
def test_refused_requests_count_for_the_rate_of_their_address(
    file: Path, header: str, refusal: type[Exception]
) -> None:
    """Clients cannot try tokens without end; a client with a valid token at the same address is not affected."""
    access = Access(Tokens(file), "2/hour")
    for expected in (refusal, refusal, RateError):
        with pytest.raises(expected):
            access.check("POST", "/facade", header, "10.0.0.1")
    access.check("POST", "/facade", "Bearer writer", "10.0.0.1")
