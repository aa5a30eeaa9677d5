"""Permissions and rate limits of clients. No I/O."""

import math
import time
from collections.abc import Callable

import limits
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from common.errors import ForbiddenError, RateError, UnauthenticatedError
from facade.auth.tokens import Scope, Token, Tokens

OPEN = ("/livez", "/readyz", "/v1/limits", "/openapi.json", "/", "/api", "/assets/{name}")  # need no token
STATUS = ("/v1/cluster", "/v1/history", "/metrics")


class Access:
    """Checks the requests of one facade.

    Args:
        tokens: the tokens of clients; None: every client may do everything.
        rate: limit on the requests of one client, such as `100/second`; "" for no limit.
        clock: seconds since 1970, the clock of the windows of the library `limits`.
    """

    def __init__(self, tokens: Tokens | None = None, rate: str = "", *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._tokens = tokens
        self._rate = limits.parse(rate) if rate else None
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage()) if rate else None

    @property
    def may_be_revoked(self) -> bool:
        """True if an admitted request can lose its permission, because its token can be removed."""
        return self._tokens is not None

    def check(self, method: str, path: str, authorization: str | None, address: str) -> str:
        """The name of the token of a request, "" if it needs none; raises an error if the request is not allowed.

        Args:
            method: in capitals.
            path: the template of the route, such as `/v1/messages/{message_id}`, with `?verbose` if the request has it.
            authorization: the value of the Authorization header.
            address: the client's IP address.

        Raises:
            UnauthenticatedError: the token is missing or unknown.
            ForbiddenError: the token does not allow the request.
            RateError: the client has sent too many requests.
        """
        if path in OPEN:
            return ""
        if self._tokens is None:
            self._count("address", address)
            return ""
        try:
            token = _find_token(self._tokens, authorization)
        except UnauthenticatedError:
            self._count("address", address)  # limits how many tokens a client can try
            raise
        self._count("token", token.name)
        _check(token, _needed(method, path))
        return token.name

    def is_allowed(self, method: str, path: str, authorization: str | None) -> bool:
        """True if a request that was allowed still is, because its token still exists. Does not count the request."""
        try:
            if self._tokens and path not in OPEN:
                _check(_find_token(self._tokens, authorization), _needed(method, path))
        except (UnauthenticatedError, ForbiddenError):
            return False
        return True

    def _count(self, kind: str, client: str) -> None:
        """Count a request of a client; raises RateError if it exceeds the rate."""
        if self._rate and self._limiter and not self._limiter.hit(self._rate, kind, client):
            reset_s, _ = self._limiter.get_window_stats(self._rate, kind, client)
            raise RateError(f"{client} has sent over {self._rate}", max(1, math.ceil(reset_s - self._clock())))


def _find_token(tokens: Tokens, authorization: str | None) -> Token:
    """The token of an Authorization header; raises UnauthenticatedError."""
    kind, _, sent = (authorization or "").partition(" ")
    if not sent or kind.lower() != "bearer":
        raise UnauthenticatedError("a token is needed: Authorization: Bearer TOKEN")
    if (token := tokens.find(sent.strip())) is None:
        raise UnauthenticatedError("the token is not known")
    return token


def _check(token: Token, scope: Scope) -> None:
    """Raise ForbiddenError if the token does not have the scope."""
    if not token.allows(scope):
        raise ForbiddenError(f"the token {token.name} does not allow this: it needs the scope {scope}")


def _needed(method: str, path: str) -> Scope:
    """The scope that a request needs."""
    if path in STATUS or path.endswith("?verbose"):
        return Scope.ADMIN
    return Scope.WRITE if method == "POST" else Scope.READ
