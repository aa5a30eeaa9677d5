"""Why a request is refused before the application has it, and what its client is told."""

from dataclasses import dataclass
from http import HTTPStatus

from common.config import Limits


@dataclass(frozen=True, slots=True)
class Refusal:
    """In the form of waitress' own errors.

    Attributes:
        code: the HTTP status.
        body: what was found, where the status does not say it.
    """

    code: int
    body: str = ""

    @property
    def reason(self) -> str:
        """As the first line of the answer has it."""
        return HTTPStatus(self.code).phrase


def sentence(status: int, found: str, limits: Limits) -> str:
    """For the client: what was found, or which limit the request is over."""
    match status:
        case HTTPStatus.SERVICE_UNAVAILABLE:
            return found
        case HTTPStatus.REQUEST_URI_TOO_LONG:
            return f"the URL is over the limit of {limits.url_bytes} bytes"
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return f"the body is over the limit of {limits.batch_bytes} bytes"
        case HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            return f"the headers are over the limit of {limits.header_bytes} bytes"
        case _:
            return f"this is not valid HTTP: {found}"
