"""Frames of messages, and messages of frames.

A frame is one msgpack map: `v` (the protocol's version), `type` (which message) and the fields of that message. That of
a request may also have `context`: the request of a client that it is sent for.
"""

from typing import cast, get_args

import msgpack
import msgspec

from common.errors import InvalidMessageError
from common.inspection import Called, Inspect, Report, Roll
from common.origin import Origin
from common.replication import (
    Admit,
    Copy,
    Digest,
    Digested,
    Fence,
    Found,
    Heartbeat,
    Join,
    Renew,
    Renewed,
    ReplicaState,
    Replicate,
    Replicated,
    Verified,
    Verify,
)
from common.vectors import VECTOR_ENTRIES
from common.wire import (
    REPLY_BYTES,
    REQUEST_BYTES,
    Append,
    AppendAll,
    Describe,
    Description,
    Failure,
    Known,
    Leased,
    Leave,
    Lookup,
    Page,
    Ping,
    Read,
    Register,
    Status,
    Stored,
    StoredAll,
    Tail,
    Tailed,
    Wire,
)

VERSION = 2

Request = (
    Ping
    | Inspect
    | Roll
    | Lookup
    | Register
    | Leave
    | Append
    | AppendAll
    | Read
    | Tail
    | Describe
    | Join
    | Heartbeat
    | Replicate
    | Renew
    | Fence
    | Admit
    | Found
    | Digest
    | Copy
    | Verify
)
Reply = (
    Status
    | Report
    | Called
    | Known
    | Leased
    | Stored
    | StoredAll
    | Page
    | Tailed
    | Description
    | ReplicaState
    | Replicated
    | Renewed
    | Digested
    | Verified
    | Failure
)

_REQUESTS, _REPLIES = ({kind.__struct_config__.tag: kind for kind in get_args(kinds)} for kinds in (Request, Reply))
# msgspec 0.22 looks at the types of a struct at their first use, and crashes the process if two threads make it do
# that at once. So it is made to look at all of them here, at the import.
msgspec.msgpack.Decoder(Request | Reply)


def encode(message: Request | Reply, origin: Origin | None = None) -> bytes:
    """The frame of a message, of a request with its origin."""
    extra = {"context": origin} if origin else {}
    frame: bytes = msgpack.packb({"v": VERSION, **extra, **msgspec.to_builtins(message)})
    return frame


def decode_request(frame: bytes) -> tuple[Request, Origin | None]:
    """The request in a frame, and its origin; raises InvalidMessageError for everything that is not one."""
    fields = _fields(frame, REQUEST_BYTES)
    origin = _origin(fields.pop("context", None))
    return cast(Request, _message(fields, _REQUESTS)), origin


def decode_reply(frame: bytes) -> Reply:
    """The reply in a frame; raises InvalidMessageError for everything that is not one."""
    return cast(Reply, _message(_fields(frame, REPLY_BYTES), _REPLIES))


def _fields(frame: bytes, limit_bytes: int) -> dict[str, object]:
    """What is in a frame but the version."""
    if len(frame) > limit_bytes:
        raise InvalidMessageError(f"a frame of {len(frame)} bytes is over the limit of {limit_bytes}")
    fields = _unpack(frame)
    if not isinstance(fields, dict):
        raise InvalidMessageError(f"a frame must be a msgpack map, not {type(fields).__name__}")
    if (version := fields.pop("v", None)) != VERSION:
        raise InvalidMessageError(f"protocol version {_shown(version)} is not {VERSION}, the only one spoken here")
    return fields


def _origin(value: object) -> Origin | None:
    if value is None:
        return None
    try:
        return msgspec.convert(value, Origin | None)
    except msgspec.ValidationError as error:
        raise InvalidMessageError(f"context: {error}") from error


def _message(fields: dict[str, object], kinds: dict[str, type[Wire]]) -> Wire:
    name = fields.get("type")
    kind = kinds.get(name) if isinstance(name, str) else None
    if kind is None:
        raise InvalidMessageError(f"{_shown(name)} is no type of message here (known types: {', '.join(kinds)})")
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise InvalidMessageError(f"{kind.__name__}: {str(error)[:400]}") from error


def _shown(value: object) -> str:
    """A value for a person; what is nested is not looked into, for it may be nested without end."""
    return repr(value)[:40] if isinstance(value, str | int | float | None) else type(value).__name__


def _unpack(frame: bytes) -> object:
    try:
        return msgpack.unpackb(
            frame,
            strict_map_key=True,
            ext_hook=_no_extension,
            max_array_len=VECTOR_ENTRIES,
            max_map_len=32,  # no message has as many fields
            max_bin_len=0,
            max_ext_len=0,
        )
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        reason = str(error)[:200] or type(error).__name__
        raise InvalidMessageError(f"a frame is not msgpack of ours: {reason}") from error


def _no_extension(code: int, _data: bytes) -> object:
    raise ValueError(f"extension type {code} is not used")
