"""Parses the bodies of POST requests: one message as JSON or plain text, or a batch as JSON or NDJSON. Pure."""

import functools
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import msgspec

from common.config import Limits
from common.errors import InvalidMessageError, MediaTypeError, RequestError, TooLargeError
from common.protocol.messages import text_bytes
from facade.api.content.charset import text_of, type_and_charset, utf_8

DEFAULT = Limits()

JSON, NDJSON, TEXT = "application/json", "application/x-ndjson", "text/plain"

Item = TypeVar("Item")

_CURL_FLAGS = {JSON: """--json '{"msg":"..."}'""", TEXT: f"-H 'Content-Type: {TEXT}'"}
_LINE = re.compile(rb"\S[^\n]*")  # a line that is not blank, from its first visible character


def message(content_type: str | None, body: bytes, limits: Limits = DEFAULT) -> str:
    """The text of the message in the body of `POST /facade`.

    Raises:
        MediaTypeError: the Content-Type is not JSON.
        TooLargeError: the body or the text exceeds its limit.
        RequestError: the body is not a JSON object with a non-empty string in `msg`.
    """
    charset = _allowed_type(content_type, (JSON,))[1]
    return _text(_parsed(utf_8(_within(body, limits.body_bytes), charset)), limits)


def messages(content_type: str | None, body: bytes, limits: Limits = DEFAULT) -> str | list[str | RequestError]:
    """The text of one message, or a list with the text of each message of a batch.

    One message is a JSON object or plain text, whose final newline is removed. A batch is a JSON array of objects, or
    NDJSON. A message of a batch that is not valid is represented by its error. Text is UTF-8, or in the charset of the
    Content-Type; a byte order mark before it is removed.

    Raises:
        MediaTypeError: the Content-Type is none of these, or its charset is unknown.
        TooLargeError: the body exceeds its limit, or the text of a single message does.
        RequestError: a single message is not valid, a batch cannot be split into messages, or it has none or too many.
    """
    media_type, charset = _allowed_type(content_type, (JSON, NDJSON, TEXT))
    if media_type == TEXT:
        text = text_of(_within(body, limits.body_bytes), charset)
        return _nonempty(text.removesuffix("\n").removesuffix("\r"), limits)
    body = utf_8(_within(body, limits.batch_bytes), charset)
    if media_type == NDJSON:
        lines = list(itertools.islice(_LINE.finditer(body), limits.batch_messages + 1))
        return _each(lines, lambda line: _text(_parsed(line[0]), limits), limits)
    if body.lstrip()[:1] == b"[":
        items = _items(body, limits.batch_messages + 1)
        return _each(items, lambda item: _text(_parsed(bytes(item)), limits), limits)
    return _text(_parsed(_within(body, limits.body_bytes)), limits)


def _each(items: Sequence[Item], read: Callable[[Item], str], limits: Limits) -> list[str | RequestError]:
    """The text of each item, or the error of an item that is not valid."""
    if not 1 <= len(items) <= limits.batch_messages:
        raise RequestError(f"a batch has 1 to {limits.batch_messages} messages, not {'more' if items else 0}")
    texts: list[str | RequestError] = []
    for item in items:
        try:
            texts.append(read(item))
        except RequestError as error:
            texts.append(error)
    return texts


def idempotency_key(header: str | None, limits: Limits = DEFAULT, client: str = "") -> str | None:
    """The key in an `Idempotency-Key` header, with or without the quotes of the IETF draft.

    Keys of different clients are different: with a `client`, the name of its token, the key is a hash of both.

    Raises:
        RequestError: the key is empty, too long, or not visible ASCII.
    """
    if header is None:
        return None
    quoted = len(header) > 1 and header[0] == header[-1] == '"'
    key = header[1:-1] if quoted else header
    if not 1 <= len(key) <= limits.key_characters or not all("!" <= character <= "~" for character in key):
        raise RequestError(f"Idempotency-Key must be 1 to {limits.key_characters} visible ASCII characters")
    return hashlib.sha256(f"{client}\0{key}".encode()).hexdigest() if client else key


def _allowed_type(content_type: str | None, allowed: tuple[str, ...]) -> tuple[str, str]:
    """The media type of a Content-Type header, and its charset; raises MediaTypeError if the type is not allowed."""
    media_type, charset = type_and_charset(content_type)
    if media_type not in allowed:
        flags = " or ".join(_CURL_FLAGS[kind] for kind in allowed if kind in _CURL_FLAGS)
        raise MediaTypeError(
            f"Content-Type must be {' or '.join(allowed)}, not {(content_type or 'missing')[:100]}; with curl: {flags}"
        )
    return media_type, charset


def _within(body: bytes, limit_bytes: int) -> bytes:
    """The same body; raises TooLargeError if it exceeds the limit."""
    if len(body) > limit_bytes:
        raise TooLargeError(f"the body has {len(body)} bytes, over the limit of {limit_bytes}")
    return body


def _text(fields: object, limits: Limits) -> str:
    """The text in the field `msg` of a JSON object."""
    if not isinstance(fields, dict):
        raise RequestError(f"the body must be a JSON object, not {_json_type(fields)}")
    text = fields.get("msg", "")
    if not isinstance(text, str):
        raise RequestError(f"msg must be a JSON string, not {_json_type(text)}")
    return _nonempty(text, limits)


def _nonempty(text: str, limits: Limits) -> str:
    """The same text, after checking that it is neither empty nor too long."""
    if not text:
        raise RequestError("No message provided")
    try:
        length = text_bytes(text)
    except InvalidMessageError as error:
        raise RequestError(str(error)) from error
    if length > limits.message_bytes:
        raise TooLargeError(f"msg has {length} bytes of UTF-8, over the limit of {limits.message_bytes}")
    return text


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


def _json_type(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


_DECODER = json.JSONDecoder(parse_constant=_not_json, object_pairs_hook=_unique)  # json.loads makes one each time: 2 us
