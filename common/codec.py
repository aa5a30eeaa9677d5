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


def encode(message: Request | Reply) -> bytes:
    """The frame of a message."""
    frame: bytes = msgpack.packb({"v": VERSION, **msgspec.to_builtins(message)})
    return frame


def decode_request(frame: bytes) -> Request:
    """The request in a frame; raises InvalidMessageError for everything that is not one."""
    return cast(Request, _decode(frame, Request, REQUEST_BYTES))


def decode_reply(frame: bytes) -> Reply:
    """The reply in a frame; raises InvalidMessageError for everything that is not one."""
    return cast(Reply, _decode(frame, Reply, REPLY_BYTES))


def _decode(frame: bytes, kinds: object, limit_bytes: int) -> object:
    if len(frame) > limit_bytes:
        raise InvalidMessageError(f"a frame of {len(frame)} bytes is over the limit of {limit_bytes}")
    fields = _unpack(frame)
    if not isinstance(fields, dict):
        raise InvalidMessageError(f"a frame must be a msgpack map, not {type(fields).__name__}")
    if (version := fields.pop("v", None)) != VERSION:
        raise InvalidMessageError(f"protocol version {str(version)[:40]} is not {VERSION}, the only one spoken here")
    try:
        return msgspec.convert(fields, kinds)
    except (msgspec.ValidationError, InvalidMessageError) as error:
        known = ", ".join(kind.__name__.lower() for kind in get_args(kinds))
        raise InvalidMessageError(f"{str(error)[:400]} (known types: {known})") from error


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
