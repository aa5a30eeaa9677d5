"""All errors that this system raises on purpose.

ThreefoldError
├── FatalError                  this process cannot start or continue; the text is one sentence for an operator
│   ├── ConfigError             config.toml, a variable or an option of the command line is wrong
│   └── ApiError                the command line: no facade can be reached, or one refuses (scripts.client.facades)
├── InvalidMessageError         bytes or values are not a valid wire message
├── PeerError                   one attempt at one address failed
│   ├── UnreachableError        no connection: the request was not sent, so nothing was done
│   ├── RefusedError            the peer answered that it did nothing
│   └── AttemptUnknownError     the request was sent; it is unknown whether it was carried out
│       ├── TimedOutError       no reply within the attempt's timeout
│       ├── DisconnectedError   the connection broke before the reply
│       └── FailedError         the peer failed while it handled the request
├── StoreError                  the local store failed, or did not finish in time
│   └── UnusableError           the file of a journal cannot be trusted any more (nodes.storage.database)
├── RequestError                the client's request is wrong; it must be changed before it is sent again
│   ├── MediaTypeError          the type, charset or coding of the body is not supported
│   ├── UnauthenticatedError    the bearer token is missing or unknown
│   ├── ForbiddenError          the token does not permit the operation
│   ├── CrossSiteError          a page of another site caused the request, in a browser
│   ├── MisdirectedError        the request names a host that this facade does not answer for
│   ├── MissingError            the requested message does not exist
│   ├── TooLargeError           the body or a message is over its size limit
│   └── KeyConflictError        the idempotency key was used before with another text
├── HttpStatusError             a client of the facade: the facade answered with an error (scripts.client.connection)
└── ServiceError                the request was not served, or its outcome is unknown
    ├── UnavailableError        no server carried out the request: nothing was done
    ├── OverloadError           a concurrency limit was reached: nothing was done
    ├── RateError               the client is over its rate limit: nothing was done
    └── OutcomeUnknownError     the write may or may not be stored
"""

import difflib


class ThreefoldError(Exception):
    """The root of all errors raised on purpose; any other exception is a defect in our code."""


class FatalError(ThreefoldError):
    """Raised when a process cannot serve, such as for a taken port, or without Java. The process exits with code 1."""


class ConfigError(FatalError):
    """Raised while the configuration is read: the text names the key, its value and the allowed values."""


class InvalidMessageError(ThreefoldError):
    """Raised when a wire message is built from wrong values, or decoded from wrong bytes; a retry cannot help."""


class PeerError(ThreefoldError):
    """Raised by a transport when one attempt at one address failed; the caller may try another address."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"{address}: {reason}")
        self.address = address
        self.reason = reason

    @property
    def kind(self) -> str:
        """A short name of the failure, used as a label in metrics."""
        return type(self).__name__.removesuffix("Error").lower()


class UnreachableError(PeerError):
    """Raised when there is no connection to the address; nothing was sent."""


class RefusedError(PeerError):
    """Raised when the peer answered that it did nothing; `code`, a `common.protocol.messages.Code`, says why."""

    def __init__(self, address: str, reason: str, code: str) -> None:
        super().__init__(address, reason)
        self.code = code

    @property
    def kind(self) -> str:
        """The code of the refusal, used as a label in metrics."""
        return str(self.code)


class AttemptUnknownError(PeerError):
    """Raised when a request was sent and there is no valid reply; only an idempotent request may be sent again."""


class TimedOutError(AttemptUnknownError):
    """Raised when no reply arrived within the attempt's timeout."""


class DisconnectedError(AttemptUnknownError):
    """Raised when the connection broke between request and reply."""


class FailedError(AttemptUnknownError):
    """Raised when the peer answered that it failed while it handled the request, or sent an invalid reply."""


class StoreError(ThreefoldError):
    """Raised by a store when an operation failed or took too long.

    Every operation of a store is idempotent, so the caller may repeat it.
    """


class RequestError(ThreefoldError):
    """Raised when a client's request is not valid: the text names the field and the limit."""


class MediaTypeError(RequestError):
    """Raised when the Content-Type of a body, its charset or its Content-Encoding is not supported."""


class UnauthenticatedError(RequestError):
    """Raised when a request has no bearer token, or an unknown one."""


class ForbiddenError(RequestError):
    """Raised when the token of a request does not permit the operation."""


class CrossSiteError(RequestError):
    """Raised when a request that may change something comes from a page of another site, which is not allowed."""


class MisdirectedError(RequestError):
    """Raised when the Host of a request is not a name of this facade."""


class MissingError(RequestError):
    """Raised when no message has the requested id."""


class TooLargeError(RequestError):
    """Raised when a body or a message is over its limit in bytes."""


class KeyConflictError(RequestError):
    """Raised when an idempotency key was used before with another text; a new message needs a new key."""


class ServiceError(ThreefoldError):
    """Raised when a request was not served, or its outcome is unknown.

    It may be sent again; a write of unknown outcome only with the same Idempotency-Key, else it may be stored twice.
    """


class UnavailableError(ServiceError):
    """Raised when no address of a service answered a read, or a write that was certainly not carried out."""

    def __init__(self, service: str, reason: str) -> None:
        super().__init__(f"{service} is not available: {reason}")
        self.service = service
        self.reason = reason


class OverloadError(ServiceError):
    """Raised when a limit on concurrent work is reached; the text names the limit."""


class RateError(ServiceError):
    """Raised when a client is over its rate limit; it may send again after `retry_after_s` seconds."""

    def __init__(self, reason: str, retry_after_s: int) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class OutcomeUnknownError(ServiceError):
    """Raised when a write was sent and never answered; the message may still be stored under `message_id`."""

    def __init__(self, message_id: str, reason: str) -> None:
        super().__init__(f"no logging node confirmed the message in time, it may still be stored: {reason}")
        self.message_id = message_id


def suggestion(word: str, known: list[str]) -> str:
    """A hint for an error about an unknown `word`: the most similar known word, or all of them."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
