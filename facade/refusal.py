"""Why a request is refused before it reaches the application, and which never are for want of room."""

from dataclasses import dataclass
from http import HTTPStatus

MANY_REQUESTS = "too many requests wait already, nothing was done"
MANY_CONNECTIONS = "too many connections are open already, nothing was done"
QUICK = ("/livez", "/v1/limits", "/v1/history", "/metrics", "/readyz", "/v1/cluster")  # how it is, told under any load


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused, in the form of waitress' own errors."""

    code: int
    body: str = ""

    @property
    def reason(self) -> str:
        """As the first line of the answer has it."""
        return HTTPStatus(self.code).phrase
