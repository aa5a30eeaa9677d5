"""One or more facades of a cluster as one: a request that did not reach a facade is sent to the next one."""

import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from common import hostport
from common.errors import FatalError
from scripts.client.connection import CLIENT_ERRORS, HttpClient, HttpReply, NotConnectedError

PORTS = {"http": 80, "https": 443}


class ApiError(FatalError):
    """Raised when no facade can be reached, or one refuses a request; the text is the reason."""


class Facades:
    """Connections to several facades; requests go to one of them until it fails.

    Args:
        urls: `http://HOST:PORT` or `https://HOST:PORT` of each.
        token: a bearer token; "" for none.
        ca_file: certificates that an https server is checked against; None: those of this machine.

    Raises:
        ApiError: a URL or the file is not valid.
    """

    def __init__(self, urls: Sequence[str], token: str = "", *, ca_file: Path | None = None) -> None:
        parsed = [parse(url) for url in urls]
        context = _context(ca_file) if any(secure for secure, _ in parsed) else None
        self._clients = [HttpClient(address, token, tls=context if secure else None) for secure, address in parsed]
        self._addresses = [address for _, address in parsed]
        self._current = 0

    @property
    def address(self) -> str:
        """The host:port of the facade in use."""
        return self._addresses[self._current]

    def close(self) -> None:
        """Close all connections; the next request opens one."""
        for client in self._clients:
            client.close()

    def call(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], *, repeatable: bool
    ) -> HttpReply:
        """Send a request to the first facade that can be reached.

        Args:
            method: in capitals.
            path: with the query.
            body: None for none.
            headers: in addition to the token.
            repeatable: it may be sent again after a failure, because that stores nothing twice.

        Raises:
            CLIENT_ERRORS: no facade can be reached, or the connection broke during a request that is not repeatable.
        """
        for left in reversed(range(len(self._clients))):
            try:
                return self._clients[self._current].call(method, path, body, headers)
            except CLIENT_ERRORS as error:
                if not left or not (repeatable or isinstance(error, NotConnectedError)):
                    raise
                self.use_next()
        raise AssertionError  # the last attempt has returned or raised

    def lines(self, path: str, headers: dict[str, str]) -> Iterator[str]:
        """The lines of a streamed reply of the first facade that can be reached; see HttpClient.lines."""
        for left in reversed(range(len(self._clients))):
            try:
                yield from self._clients[self._current].lines(path, headers)
            except NotConnectedError:
                if not left:
                    raise
                self.use_next()
            else:
                return

    def use_next(self) -> None:
        """Use the next facade from now on."""
        self._clients[self._current].close()
        self._current = (self._current + 1) % len(self._clients)


def parse(url: str) -> tuple[bool, str]:
    """Whether a URL is https, and its host:port; raises ApiError."""
    wrong = ApiError(f"--url must be http://HOST:PORT or https://HOST:PORT, not {url}")
    try:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        port = PORTS.get(parts.scheme, 0) if parts.port is None else parts.port
    except ValueError as error:  # a port over 65,535, or half a pair of brackets
        raise wrong from error
    if parts.scheme not in PORTS or not parts.hostname or not port or parts.path.rstrip("/") not in ("", "/facade"):
        raise wrong
    return parts.scheme == "https", hostport.join(parts.hostname, port)


def _context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ApiError(f"--ca-file {ca_file} has no certificates: {error}") from error
