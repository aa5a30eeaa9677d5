"""Messages of clients: their ids, texts and fields, and the limits of each."""

import json
from typing import Annotated, NamedTuple, Protocol

import msgspec
from msgspec import Meta

from common.errors import InvalidMessageError

MESSAGE_BYTES = 65_536  # limit on one text in UTF-8; a log line with a long stack trace is below 10 kB
FIELDS_BYTES = 16_384  # limit on the fields of one message as JSON in UTF-8; `[limits] fields_bytes` may be lower

UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
# The patterns end with `\Z`, because `$` also matches before a final newline.
MessageId = Annotated[str, Meta(pattern=rf"^{UUID}\Z")]  # a UUID in its canonical text form
Cursor = Annotated[str, Meta(pattern=rf"^({UUID})?\Z")]  # a MessageId, or "" for the position before the first message
IdempotencyKey = Annotated[str, Meta(pattern="^[\x21-\x7e]{1,255}\\Z")]  # visible ASCII
Key = Annotated[str, Meta(pattern="^[\x21-\x7e]{0,255}\\Z")]  # an IdempotencyKey, or "" for none
Text = Annotated[str, Meta(max_length=MESSAGE_BYTES)]
Fields = Annotated[str, Meta(max_length=FIELDS_BYTES)]  # a flat JSON object; "" for none. Facades make and read it.


class Content(Protocol):
    """Anything that has the text and the fields of a message."""

    @property
    def msg(self) -> str:
        """The text."""

    @property
    def fields(self) -> str:
        """The fields; see Fields."""


class Entry(NamedTuple):
    """A message.

    Attributes:
        id, msg: its id and its text.
        fields: its fields.
        key: its idempotency key, only in an Append.
        node: host:port of the node that accepted it, "" if unknown; never in an Append.
    """

    id: MessageId
    msg: Text
    fields: Fields = ""
    key: Key = ""
    node: Annotated[str, Meta(max_length=64)] = ""


def content_bytes(content: Content) -> int:
    """The length of the text and the fields of a message in bytes of UTF-8; see `text_bytes`."""
    return text_bytes(content.msg) + (text_bytes(content.fields, "fields") if content.fields else 0)


def text_bytes(text: str, name: str = "msg") -> int:
    """The length of `text` in bytes of UTF-8.

    Raises:
        InvalidMessageError: the text has a lone surrogate, which UTF-8 cannot encode; the error calls it `name`.
    """
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidMessageError(f"{name} is not valid Unicode text: {error.reason} at {error.start}") from error


def check_fields(fields: str) -> None:
    """Check the fields of a message that a client sends.

    Raises:
        InvalidMessageError: they are longer than FIELDS_BYTES, or not what `canonical` makes of a flat object.
    """
    if (length := text_bytes(fields, "fields")) > FIELDS_BYTES:
        raise InvalidMessageError(f"fields has {length} bytes of UTF-8, over the limit of {FIELDS_BYTES}")
    try:
        decoded = msgspec.json.decode(fields, type=dict[str, str | int | float | bool])
    except msgspec.MsgspecError as error:
        raise InvalidMessageError(f"fields is not a flat JSON object: {error}") from error
    if canonical(decoded) != fields:
        raise InvalidMessageError("fields must be compact JSON, without escapes that JSON does not need")


def canonical(value: object) -> str:
    """A JSON value as nodes store and search it in fields: compact, with members in their order.

    Raises:
        ValueError: a number is infinite; RecursionError: a value is nested too deeply.
    """
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
