"""Requests that are refused before they reach the application, and the messages for their clients."""

from dataclasses import dataclass
from http import HTTPStatus

from common.config import Limits


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason of a refusal, with the attributes of waitress' own errors.

    Attributes:
        code: the HTTP status.
        body: what is wrong, if the status does not say it.
    """

    code: int
    body: str = ""

    @property
    def reason(self) -> str:
        """As the first line of the answer has it."""
        return HTTPStatus(self.code).phrase


def message(status: int, found: str, limits: Limits) -> str:
    """The message for the client: what is wrong, or which limit the request exceeds."""
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
