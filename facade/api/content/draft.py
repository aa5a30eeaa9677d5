"""One message of a request: checks its text, fields and key, and forms the draft that is stored. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from common.config import Limits
from common.errors import InvalidMessageError, RequestError, TooLargeError
from common.protocol.content import canonical, text_bytes
from common.protocol.search import NAME_CHARACTERS
from facade.api.content.timestamp import ns_of_value

MEMBERS = ("msg", "fields", "key")  # of a message in /v1


class Draft(NamedTuple):
    """A valid message of a request, which has no id yet.

    Attributes:
        msg: its text.
        fields: its fields as JSON; "" for none.
        key: its idempotency key; "" for none.
        made_ns: the time that its id shall have, in nanoseconds since 1970; None for the time at which it is stored.
    """

    msg: str
    fields: str = ""
    key: str = ""
    made_ns: int | None = None


@dataclass(frozen=True, slots=True)
class RecordShape:
    """Where the records of a shipper have their text and their time; all other members become fields.

    Attributes:
        msg_field: the member with the text.
        time_field: the member with the time; "" for none.
    """

    msg_field: str
    time_field: str = ""


def draft_of(value: object, limits: Limits, *, strict: bool = True) -> Draft:
    """The draft of a JSON object with `msg`, and perhaps `fields` and `key`.

    Args:
        value: the decoded JSON.
        limits: the limits on each part.
        strict: refuse other members; else all but `msg` are ignored, as the first version of the interface did.

    Raises:
        RequestError: a part is not valid, or (TooLargeError) exceeds its limit.
    """
    members = _members(value)
    text = members.get("msg", "")
    if not isinstance(text, str):
        raise RequestError(f"msg must be a JSON string, not {json_type(text)}")
    if not strict:
        return Draft(checked_text(text, limits))
    if unknown := sorted(members.keys() - set(MEMBERS)):
        raise RequestError(
            f"a message has no member {unknown[0][:40]!r}, only {', '.join(MEMBERS)}; put other values into fields"
        )
    key = members.get("key", "")
    if not isinstance(key, str):
        raise RequestError(f"key must be a JSON string, not {json_type(key)}")
    if "key" in members:
        key = checked_key(key, limits, "key")
    return Draft(checked_text(text, limits), _fields_of(members.get("fields"), limits), key)


def draft_of_record(value: object, shape: RecordShape, limits: Limits) -> Draft:
    """The draft of a record of a shipper.

    Members of nested objects become fields with names such as `kubernetes.pod`, lists become JSON text, and null is
    left out.

    Raises:
        RequestError: a part is missing or not valid, or (TooLargeError) exceeds its limit.
    """
    members = dict(_members(value))
    if shape.msg_field not in members:
        raise RequestError(f"the record has no member {shape.msg_field[:40]!r}, which msg_field names")
    if (text := members.pop(shape.msg_field)) is None:
        raise RequestError(f"{shape.msg_field[:40]} is null, but it must have the text of the message")
    made_ns = None
    if shape.time_field and (moment := members.pop(shape.time_field, None)) is not None:
        made_ns = ns_of_value(moment, shape.time_field[:40])
    text = text if isinstance(text, str) else _json(text)
    return Draft(checked_text(text, limits), fields_text(flat(members, limits), limits), "", made_ns)


def checked_text(text: str, limits: Limits) -> str:
    """The same text, after checking that it is neither empty nor too long."""
    if not text:
        raise RequestError("No message provided")
    if (length := _utf_8_bytes(text, "msg")) > limits.message_bytes:
        raise TooLargeError(f"msg has {length} bytes of UTF-8, over the limit of {limits.message_bytes}")
    return text


def checked_key(key: str, limits: Limits, name: str) -> str:
    """The same idempotency key, after checking that it is visible ASCII; the error refers to it as `name`."""
    if not 1 <= len(key) <= limits.key_characters or not all("!" <= character <= "~" for character in key):
        raise RequestError(f"{name} must be 1 to {limits.key_characters} visible ASCII characters")
    return key


def fields_text(fields: Mapping[str, object], limits: Limits) -> str:
    """Fields as compact JSON, "" if there are none.

    Raises:
        RequestError: a name or a value is not valid, or (TooLargeError) there are too many.
    """
    if len(fields) > limits.fields:
        raise TooLargeError(f"fields has {len(fields)} members, over the limit of {limits.fields}")
    for name, value in fields.items():
        _check_field(name, value)
    text = _json(fields) if fields else ""
    if (length := _utf_8_bytes(text, "fields")) > limits.fields_bytes:
        raise TooLargeError(f"fields has {length} bytes of JSON, over the limit of {limits.fields_bytes}")
    return text


def flat(members: Mapping[str, object], limits: Limits) -> dict[str, object]:
    """The members of nested objects by dotted names, and lists as JSON text; without null. Not recursive.

    Raises:
        RequestError: two members get one name; TooLargeError: there are too many, or a name is too long. Both are
            found before more memory is used.
    """
    found: dict[str, object] = {}
    waiting = [("", name, value) for name, value in members.items()][::-1]
    while waiting:
        prefix, own, value = waiting.pop()
        if len(prefix) + len(own) > NAME_CHARACTERS:
            raise TooLargeError(f"the name of a field has over {NAME_CHARACTERS} characters: {prefix[:40]}{own[:40]}")
        name = prefix + own
        if isinstance(value, dict):
            waiting.extend([(f"{name}.", inner, one) for inner, one in value.items()][::-1])
            continue
        if name in found:
            raise RequestError(f"two members of the record are called {name[:40]!r}")
        if value is not None:
            found[name] = _json(value) if isinstance(value, list) else value
        if len(found) > limits.fields:
            raise TooLargeError(f"the record has over {limits.fields} fields, which is the limit")
    return found


def json_type(value: object) -> str:
    """What a JSON value is, for an error."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _members(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RequestError(f"the body must be a JSON object, not {json_type(value)}")
    return value


def _fields_of(value: object, limits: Limits) -> str:
    if value is None:
        return ""
    if not isinstance(value, dict):
        raise RequestError(f"fields must be a JSON object, not {json_type(value)}")
    return fields_text(value, limits)


def _check_field(name: str, value: object) -> None:
    if not 1 <= len(name) <= NAME_CHARACTERS:
        raise RequestError(f"the name of a field has 1 to {NAME_CHARACTERS} characters, not {len(name)}")
    if not isinstance(value, str | int | float):
        raise RequestError(f"the field {name[:40]!r} must be text, a number or a boolean, not {json_type(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise RequestError(f"the field {name[:40]!r} is not a finite number")


def _utf_8_bytes(text: str, name: str) -> int:
    try:
        return text_bytes(text, name)
    except InvalidMessageError as error:
        raise RequestError(str(error)) from error


def _json(value: object) -> str:
    try:
        return canonical(value)
    except RecursionError as error:
        raise RequestError("a member is nested too deeply") from error
    except ValueError as error:
        raise RequestError("a number is too large") from error
