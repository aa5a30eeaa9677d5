"""Reads the body of `POST /facade`: one JSON object with the text under `msg`. Pure."""

import json
from typing import Any, NoReturn

from common.errors import InvalidMessageError, MediaTypeError, RequestError, TooLargeError
from common.wire import MESSAGE_BYTES, text_bytes

KEY_CHARACTERS = 255  # as in the wire's IdempotencyKey
BODY_BYTES = 1_048_576  # of one request: a text of MESSAGE_BYTES with every character escaped is 6 times as long


def message(content_type: str | None, body: bytes) -> str:
    """The text to store.

    Raises:
        MediaTypeError: the body is not announced as JSON.
        TooLargeError: the body or the text is over its limit.
        RequestError: the body is not a JSON object with a text under `msg`.
    """
    if (content_type or "").partition(";")[0].strip().lower() != "application/json":
        raise MediaTypeError(f"Content-Type must be application/json, not {content_type or 'missing'}")
    if len(body) > BODY_BYTES:
        raise TooLargeError(f"the body has {len(body)} bytes, over the limit of {BODY_BYTES}")
    fields = _object(body)
    text = fields.get("msg", "")
    if not isinstance(text, str):
        raise RequestError(f"msg must be a JSON string, not {_json_type(text)}")
    if not text:
        raise RequestError("No message provided")
    return _within_limit(text)


def idempotency_key(header: str | None) -> str | None:
    """The key in an `Idempotency-Key` header, with or without the quotes of the IETF draft.

    Raises:
        RequestError: it is empty, over 255 characters, or not visible ASCII.
    """
    if header is None:
        return None
    quoted = len(header) > 1 and header[0] == header[-1] == '"'
    key = header[1:-1] if quoted else header
    if not 1 <= len(key) <= KEY_CHARACTERS or not all("!" <= character <= "~" for character in key):
        raise RequestError(f"Idempotency-Key must be 1 to {KEY_CHARACTERS} visible ASCII characters")
    return key


def _within_limit(text: str) -> str:
    try:
        length = text_bytes(text)
    except InvalidMessageError as error:
        raise RequestError(str(error)) from error
    if length > MESSAGE_BYTES:
        raise TooLargeError(f"msg has {length} bytes of UTF-8, over the limit of {MESSAGE_BYTES}")
    return text


def _object(body: bytes) -> dict[str, Any]:
    """The object in a body; json.loads alone would let NaN and a key given twice pass."""
    try:
        fields = json.loads(body.decode(), parse_constant=_not_json, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:  # ValueError: also not UTF-8, and numbers of over 4,300 digits
        raise RequestError(f"the body is not valid JSON: {str(error)[:200]}") from error
    if not isinstance(fields, dict):
        raise RequestError(f"the body must be a JSON object, not {_json_type(fields)}")
    return fields


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
