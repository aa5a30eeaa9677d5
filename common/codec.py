"""Frames of messages, and messages of frames.

A frame is one msgpack map: `v` (the protocol's version), `type` (which message) and the fields of that message.
"""

from typing import cast, get_args

import msgpack
import msgspec

from common.errors import InvalidMessageError
from common.replication import Copy, Digest, Digested, Fetch, Fetched, Sync, Synced, Verified, Verify
from common.wire import (
    PAGE_MESSAGES,
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

VERSION = 1

Request = (
    Ping
    | Lookup
    | Register
    | Leave
    | Append
    | AppendAll
    | Read
    | Tail
    | Describe
    | Fetch
    | Sync
    | Digest
    | Copy
    | Verify
)
Reply = (
    Status
    | Known
    | Leased
    | Stored
    | StoredAll
    | Page
    | Tailed
    | Description
    | Fetched
    | Synced
    | Digested
    | Verified
    | Failure
)

_REQUESTS, _REPLIES = ({kind.__struct_config__.tag: kind for kind in get_args(kinds)} for kinds in (Request, Reply))


def encode(message: Request | Reply) -> bytes:
    """The frame of a message."""
    frame: bytes = msgpack.packb({"v": VERSION, **msgspec.to_builtins(message)})
    return frame


def decode_request(frame: bytes) -> Request:
    """The request in a frame; raises InvalidMessageError for everything that is not one."""
    return cast(Request, _decode(frame, _REQUESTS, REQUEST_BYTES))


def decode_reply(frame: bytes) -> Reply:
    """The reply in a frame; raises InvalidMessageError for everything that is not one."""
    return cast(Reply, _decode(frame, _REPLIES, REPLY_BYTES))


def _decode(frame: bytes, kinds: dict[str, type[Wire]], limit_bytes: int) -> Wire:
    if len(frame) > limit_bytes:
        raise InvalidMessageError(f"a frame of {len(frame)} bytes is over the limit of {limit_bytes}")
    fields = _unpack(frame)
    if not isinstance(fields, dict):
        raise InvalidMessageError(f"a frame must be a msgpack map, not {type(fields).__name__}")
    if (version := fields.pop("v", None)) != VERSION:
        raise InvalidMessageError(f"protocol version {_shown(version)} is not {VERSION}, the only one spoken here")
    name = fields.pop("type", None)
    kind = kinds.get(name) if isinstance(name, str) else None
    if kind is None:
        raise InvalidMessageError(f"{_shown(name)} is no type of message here (known types: {', '.join(kinds)})")
    try:
        return kind(**fields)
    except TypeError as error:  # a field that is missing or unknown
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
            max_array_len=PAGE_MESSAGES,
            max_map_len=16,  # no message has as many fields
            max_bin_len=0,
            max_ext_len=0,
        )
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        reason = str(error)[:200] or type(error).__name__
        raise InvalidMessageError(f"a frame is not msgpack of ours: {reason}") from error


def _no_extension(code: int, _data: bytes) -> object:
    raise ValueError(f"extension type {code} is not used")
