"""Parses the bodies of POST requests: one message as JSON or plain text, or a batch as JSON or NDJSON. Pure."""

import functools
import itertools
import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import msgspec

from common.config import Limits
from common.errors import MediaTypeError, RequestError, TooLargeError
from facade.api.content.charset import text_of, type_and_charset, utf_8
from facade.api.content.draft import Draft, RecordShape, checked_key, checked_text, draft_of, draft_of_record

DEFAULT = Limits()

JSON, NDJSON, TEXT = "application/json", "application/x-ndjson", "text/plain"

Item = TypeVar("Item")

_CURL_FLAGS = {JSON: """--json '{"msg":"..."}'""", TEXT: f"-H 'Content-Type: {TEXT}'"}
_LINE = re.compile(rb"\S[^\n]*")  # a line that is not blank, from its first visible character


def message(content_type: str | None, body: bytes, limits: Limits = DEFAULT) -> Draft:
    """The message in the body of `POST /facade`.

    Raises:
        MediaTypeError: the Content-Type is not JSON.
        TooLargeError: the body or the text exceeds its limit.
        RequestError: the body is not a JSON object with a non-empty string in `msg`.
    """
    charset = _allowed_type(content_type, (JSON,))[1]
    return draft_of(_parsed(utf_8(within(body, limits.body_bytes), charset)), limits, strict=False)


def messages(
    content_type: str | None, body: bytes, limits: Limits = DEFAULT, shape: RecordShape | None = None
) -> Draft | list[Draft | RequestError]:
    """One message, or a list with each message of a batch.

    One message is a JSON object or plain text, whose final newline is removed. A batch is a JSON array of objects, or
    NDJSON. A message of a batch that is not valid is represented by its error. Text is UTF-8, or in the charset of the
    Content-Type; a byte order mark before it is removed. With a `shape`, each object is a record of a shipper.

    Raises:
        MediaTypeError: the Content-Type is none of these, or its charset is unknown.
        TooLargeError: the body exceeds its limit, or the text of a single message does.
        RequestError: a single message is not valid, a batch cannot be split into messages, or it has none or too many.
    """
    media_type, charset = _allowed_type(content_type, (JSON, NDJSON, TEXT))
    if media_type == TEXT:
        text = text_of(within(body, limits.body_bytes), charset)
        return Draft(checked_text(text.removesuffix("\n").removesuffix("\r"), limits))
    body = utf_8(within(body, limits.batch_bytes), charset)

    def read(part: bytes) -> Draft:
        return draft_of_record(_parsed(part), shape, limits) if shape else draft_of(_parsed(part), limits)

    if media_type == NDJSON:
        lines = list(itertools.islice(_LINE.finditer(body), limits.batch_messages + 1))
        return _each(lines, lambda line: read(line[0]), limits)
    if body.lstrip()[:1] == b"[":
        items = _items(body, limits.batch_messages + 1)
        return _each(items, lambda item: read(bytes(item)), limits)
    return read(within(body, limits.body_bytes))


def _each(items: Sequence[Item], read: Callable[[Item], Draft], limits: Limits) -> list[Draft | RequestError]:
    """The message of each item, or the error of an item that is not valid."""
    if not 1 <= len(items) <= limits.batch_messages:
        raise RequestError(f"a batch has 1 to {limits.batch_messages} messages, not {'more' if items else 0}")
    drafts: list[Draft | RequestError] = []
    for item in items:
        try:
            drafts.append(read(item))
        except RequestError as error:
            drafts.append(error)
    return drafts


def idempotency_key(header: str, limits: Limits = DEFAULT) -> str:
    """The key in an `Idempotency-Key` header, with or without the quotes of the IETF draft.

    Raises:
        RequestError: the key is empty, too long, or not visible ASCII.
    """
    quoted = len(header) > 1 and header[0] == header[-1] == '"'
    return checked_key(header[1:-1] if quoted else header, limits, "Idempotency-Key")


def _allowed_type(content_type: str | None, allowed: tuple[str, ...]) -> tuple[str, str]:
    """The media type of a Content-Type header, and its charset; raises MediaTypeError if the type is not allowed."""
    media_type, charset = type_and_charset(content_type)
    if media_type not in allowed:
        flags = " or ".join(_CURL_FLAGS[kind] for kind in allowed if kind in _CURL_FLAGS)
        raise MediaTypeError(
            f"Content-Type must be {' or '.join(allowed)}, not {(content_type or 'missing')[:100]}; with curl: {flags}"
        )
    return media_type, charset


def within(body: bytes, limit_bytes: int) -> bytes:
    """The same body; raises TooLargeError if it exceeds the limit."""
    if len(body) > limit_bytes:
        raise TooLargeError(f"the body has {len(body)} bytes, over the limit of {limit_bytes}")
    return body


def _parsed(body: bytes) -> Any:
    """The JSON value of a body; unlike json.loads, rejects NaN and duplicate keys."""
    try:
        return _DECODER.decode(text_of(body))
    except (ValueError, RecursionError) as error:  # ValueError: also numbers of over 4,300 digits
        raise RequestError(f"the body is not valid JSON: {str(error)[:200]}") from error


def _items(body: bytes, most: int) -> Sequence[msgspec.Raw]:
    """The first `most` items of a JSON array, undecoded, because each item is validated separately."""
    try:
        if body.count(b",") < most:
            return msgspec.json.decode(body, type=list[msgspec.Raw])
        items = msgspec.structs.astuple(msgspec.json.decode(body, type=_first(most)))
        return [item for item in items if item is not None]
    except (msgspec.MsgspecError, RecursionError) as error:
        raise RequestError(f"the body is not valid JSON: {str(error)[:200]}") from error


@functools.cache
def _first(most: int) -> type[msgspec.Struct]:
    """A type that decodes the first items of an array; msgspec skips the rest without making objects."""
    return msgspec.defstruct("First", [(f"item_{place}", msgspec.Raw, None) for place in range(most)], array_like=True)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key is given twice")
    return fields


def _not_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_not_json, object_pairs_hook=_unique)  # json.loads makes one each time: 2 us
