"""Who may do what, and how often: asked for each request, before anything is done. Pure."""

import math
import time
from collections.abc import Callable

import limits
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from common.errors import ForbiddenError, RateError, UnauthenticatedError
from facade.auth.tokens import Scope, Token, Tokens

OPEN = ("/livez", "/readyz", "/v1/limits", "/openapi.json", "/", "/api", "/assets/{name}")  # of them nothing is secret
STATUS = ("/v1/cluster", "/v1/history", "/metrics")

Admit = Callable[[str, str, str | None, str], None]


class Access:
    """The rules of one facade.

    Args:
        tokens: of the clients; None: everybody may do everything.
        rate: requests of one client, as `100/second`; "" for no limit.
    """

    def __init__(self, tokens: Tokens | None = None, rate: str = "") -> None:
        self._tokens = tokens
        self._rate = limits.parse(rate) if rate else None
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage()) if rate else None

    @property
    def may_be_revoked(self) -> bool:
        """True if an admitted request can lose its permission, because its token can be removed."""
        return self._tokens is not None

    def admit(self, method: str, path: str, authorization: str | None, address: str) -> None:
        """Return if a request is to be answered.

        Args:
            method: in capitals.
            path: as a route has it, `/v1/messages/{message_id}`; with `?verbose` when that is asked for.
            authorization: the header.
            address: the client's IP address.

        Raises:
            UnauthenticatedError, ForbiddenError: the token is missing or wrong, or does not allow that.
            RateError: the client had as many as it may have.
        """
        if path in OPEN:
            return
        if self._tokens is None:
            self._count("address", address)
            return
        try:
            token = _sent(self._tokens, authorization)
        except UnauthenticatedError:
            self._count("address", address)  # else tokens could be tried without end
            raise
        self._count("token", token.name)
        _check(token, _needed(method, path))

    def goes_on(self, method: str, path: str, authorization: str | None) -> bool:
        """Whether a request that was admitted still would be: its token may have been removed."""
        try:
            if self._tokens and path not in OPEN:
                _check(_sent(self._tokens, authorization), _needed(method, path))
        except (UnauthenticatedError, ForbiddenError):
            return False
        return True

    def _count(self, kind: str, client: str) -> None:
        """One more request of a client; raises RateError."""
        if self._rate and self._limiter and not self._limiter.hit(self._rate, kind, client):
            reset_s, _ = self._limiter.get_window_stats(self._rate, kind, client)
            raise RateError(f"{client} has sent over {self._rate}", max(1, math.ceil(reset_s - time.time())))


def _sent(tokens: Tokens, authorization: str | None) -> Token:
    """The token that was sent; raises UnauthenticatedError."""
    kind, _, sent = (authorization or "").partition(" ")
    if not sent or kind.lower() != "bearer":
        raise UnauthenticatedError("a token is needed: Authorization: Bearer TOKEN")
    if (token := tokens.find(sent.strip())) is None:
        raise UnauthenticatedError("the token is not known here")
    return token


def _check(token: Token, scope: Scope) -> None:
    """Raise ForbiddenError if it does not allow that."""
    if not token.allows(scope):
        raise ForbiddenError(f"the token {token.name} does not allow this: it needs the scope {scope}")


def _needed(method: str, path: str) -> Scope:
    if path in STATUS or path.endswith("?verbose"):
        return Scope.ADMIN
    return Scope.WRITE if method == "POST" else Scope.READ
