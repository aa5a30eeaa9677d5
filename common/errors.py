"""Every error that this system raises on purpose.

ThreefoldError
├── FatalError                  this process cannot start, or cannot go on; one sentence for a person
│   └── ConfigError             config.toml, or an option, is wrong
├── InvalidMessageError         bytes or values that are not a valid wire message
├── PeerError                   one attempt at one address failed
│   ├── UnreachableError        nothing was sent: certainly not done
│   ├── RefusedError            the peer answered that it did nothing
│   └── AttemptUnknownError     it was sent; whether it was done is not known
│       ├── TimedOutError       no reply within the poll timeout
│       ├── DisconnectedError   the peer went away while it held the request
│       └── FailedError         the peer broke while it worked on the request
├── StoreError                  the store of this node could not do it, or not in time
├── RequestError                the client's request is wrong: changing it is the only cure
│   ├── MediaTypeError          its body is announced as something that is not taken here
│   ├── UnauthenticatedError    it has no token, or one that nobody has
│   ├── ForbiddenError          its token does not allow that
│   ├── MissingError            it asks for a message that is not there
│   ├── TooLargeError           over a limit
│   └── KeyConflictError        its idempotency key came with another text before
└── ServiceError                all attempts failed: the same request may be sent again
    ├── UnavailableError        certainly nothing was done
    ├── OverloadError           nothing was done, because too much goes on already
    ├── RateError               nothing was done, because this client has sent too much
    └── OutcomeUnknownError     a write that may, or may not, be stored
"""


class ThreefoldError(Exception):
    """The root: whatever is not one of these is a defect of ours."""


class FatalError(ThreefoldError):
    """Raised when a process cannot serve: a taken port, no Java, a member that ended. It exits with 1."""


class ConfigError(FatalError):
    """Raised while the configuration is read: the text names the key, the value and what is allowed."""


class InvalidMessageError(ThreefoldError):
    """Raised when a wire message is built from wrong values or decoded from wrong bytes. Never sent again as it is."""


class PeerError(ThreefoldError):
    """Raised by a transport: one attempt at one address failed, another address may do better."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"{address}: {reason}")
        self.address = address
        self.reason = reason

    @property
    def kind(self) -> str:
        """One of a few words, by which failures are counted."""
        return type(self).__name__.removesuffix("Error").lower()


class UnreachableError(PeerError):
    """Raised before anything was sent: there is no connection to the address."""


class RefusedError(PeerError):
    """Raised when the peer answered that it did nothing, and why: `code`, one of `common.wire.Code`."""

    def __init__(self, address: str, reason: str, code: str) -> None:
        super().__init__(address, reason)
        self.code = code

    @property
    def kind(self) -> str:
        """The code."""
        return str(self.code)


class AttemptUnknownError(PeerError):
    """Raised when a request was sent and no usable reply came: only an idempotent request may be sent again."""


class TimedOutError(AttemptUnknownError):
    """Raised when no reply came within the attempt's timeout."""


class DisconnectedError(AttemptUnknownError):
    """Raised when the connection broke between request and reply."""


class FailedError(AttemptUnknownError):
    """Raised when the peer answered that it failed while it worked on the request."""


class StoreError(ThreefoldError):
    """Raised by a store: the step failed or took too long. Every step is idempotent, so it may be tried again."""


class RequestError(ThreefoldError):
    """Raised when a client's request is not acceptable: the text names the field and the limit."""


class MediaTypeError(RequestError):
    """Raised when a body is not announced as one of the types that are taken."""


class UnauthenticatedError(RequestError):
    """Raised when a request has no bearer token, or one that is not known."""


class ForbiddenError(RequestError):
    """Raised when the token of a request does not allow what it asks for."""


class MissingError(RequestError):
    """Raised when no message has the id that was asked for."""


class TooLargeError(RequestError):
    """Raised when a body or a message is over its limit in bytes."""


class KeyConflictError(RequestError):
    """Raised when an idempotency key is sent with another text than before: a new message needs a new key."""


class ServiceError(ThreefoldError):
    """Raised when a service gave no answer before the deadline of the request."""


class UnavailableError(ServiceError):
    """Raised when no address of a service answered: a read, or a write of which certainly nothing was done."""

    def __init__(self, service: str, reason: str) -> None:
        super().__init__(f"{service} is not available: {reason}")
        self.service = service
        self.reason = reason


class OverloadError(ServiceError):
    """Raised when a limit of what may go on at once is reached: the text names it."""


class RateError(ServiceError):
    """Raised when a client has sent as much as it may: it may send again after `retry_after_s`."""

    def __init__(self, reason: str, retry_after_s: int) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class OutcomeUnknownError(ServiceError):
    """Raised when a write was sent and never answered: it may still be stored under `message_id`."""

    def __init__(self, message_id: str, reason: str) -> None:
        super().__init__(f"no logging node confirmed the message in time, it may still be stored: {reason}")
        self.message_id = message_id
