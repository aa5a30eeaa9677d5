"""Protection against pages of other sites, which a browser shows to somebody who can reach this facade. No I/O.

Such a page can send requests to `localhost:5000` (cross-site request forgery). It can also give its own name the
address of this facade, and then read the answers (DNS rebinding). The first is recognised by the headers that browsers
add, the second by the name in `Host`. Other clients, such as curl, send no such headers.
"""

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from common.errors import CrossSiteError, MisdirectedError

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")  # change nothing; a browser keeps their answers from pages of other sites
ANY_HOST = "*"  # in `[facade] hosts`: every name is known
PREFLIGHT_S = 600  # how long a browser may keep the answer to a preflight request

_EXPOSED = "Idempotent-Replayed, Link, Location, Retry-After, Server-Timing, X-Logging-Node, X-Request-ID"
_ALLOWED = (
    "Accept, Authorization, Content-Encoding, Content-Type, Idempotency-Key, Last-Event-ID, traceparent, tracestate, "
    "X-Request-ID"
)
_SAME_SITE = ("same-origin", "none")  # of Sec-Fetch-Site: a page of this facade, or the person's own request


class Origins:
    """Decides which pages may use a facade.

    Args:
        hosts: the names that this facade answers to, besides loopback names; None: every name.
        any_address: every IP address is known, too, because the facade listens at a name or at all addresses of its
            machine. A name is needed for DNS rebinding, so this opens nothing.
        allowed: the origins of other sites whose pages may use this facade, such as `https://app.example`.
    """

    def __init__(
        self, hosts: Collection[str] | None = None, *, any_address: bool = False, allowed: Collection[str] = ()
    ) -> None:
        names = {host_name(host) for host in hosts or ()}
        self._hosts = None if hosts is None or ANY_HOST in names else names
        self._any_address = any_address
        self._allowed = {origin.lower() for origin in allowed}

    @property
    def others_allowed(self) -> bool:
        """True if pages of some other site may use this facade, so that answers differ between origins."""
        return bool(self._allowed)

    def check(self, method: str, host: str | None, origin: str | None, fetch_site: str | None) -> None:
        """Raise an error if a page of another site may have caused a request.

        Args:
            method: in capitals.
            host: the header Host; None if it is missing, which HTTP/1.0 allows.
            origin: the header Origin, which browsers send with every POST; None if it is missing.
            fetch_site: the header Sec-Fetch-Site, which newer browsers send; None if it is missing.

        Raises:
            MisdirectedError: the host is not known.
            CrossSiteError: the request may change something, and comes from a page of another site.
        """
        if host is not None and not self._is_known(host_name(host)):
            raise MisdirectedError(
                f"this facade does not answer for the host {host[:100]!r}; add its name to `[facade] hosts`"
            )
        if method in SAFE_METHODS or self.is_allowed(origin) or fetch_site in _SAME_SITE:
            return
        if fetch_site is None and (origin is None or _has_host(origin, host)):
            return
        raise CrossSiteError(
            f"the request comes from a page of another site, {(origin or 'which sent no Origin')[:100]}; "
            "`[facade] cors_origins` allows pages of other sites"
        )

    def is_allowed(self, origin: str | None) -> bool:
        """True for the origin of another site whose pages may use this facade."""
        return origin is not None and origin.lower() in self._allowed

    def _is_known(self, name: str) -> bool:
        if self._hosts is None or name in self._hosts or name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._any_address or address.is_loopback


def cors_headers(origin: str) -> dict[str, str]:
    """The headers of each answer to a page of an allowed origin, which allow its browser to hand over the answer."""
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": _EXPOSED}


def preflight_headers() -> dict[str, str]:
    """The headers of the answer to a browser that asks whether such a page may send a request (preflight)."""
    return {
        "Access-Control-Allow-Methods": "GET, HEAD, POST",
        "Access-Control-Allow-Headers": _ALLOWED,
        "Access-Control-Max-Age": str(PREFLIGHT_S),
    }


def host_name(host: str) -> str:
    """The name in a Host header: without port, brackets and final dot, in lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    name, colon, port = host.rpartition(":")
    return (name if colon and (port.isdecimal() or not port) and ":" not in name else host).rstrip(".").lower()


def _has_host(origin: str, host: str | None) -> bool:
    """True if an origin has the same host and port as a Host header."""
    try:
        return host is not None and urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False
