"""Encoding of messages to frames, and decoding.

A frame is one msgpack map: `v` (protocol version), `type` (kind of message) and the fields of the message. The frame of
a request may also have `context`: the context of the client request for which it is sent.
"""

from collections.abc import Mapping
from typing import TypeVar, get_args

import msgpack
import msgspec
from msgspec import UNSET
from msgspec.structs import force_setattr, replace

from common.errors import InvalidMessageError
from common.protocol.admin import Inspect, Leases, ListLeases, Report
from common.protocol.messages import (
    REPLY_BYTES,
    REQUEST_BYTES,
    Append,
    Appended,
    Deregister,
    Describe,
    Description,
    Failure,
    LeaseGranted,
    Lookup,
    LookupResult,
    Page,
    Ping,
    Read,
    Register,
    Status,
    Tail,
    Tailed,
    WireMessage,
)
from common.protocol.replication import (
    Admit,
    Bootstrap,
    Digest,
    Digested,
    Fence,
    Heartbeat,
    Join,
    ListEntries,
    Renew,
    Renewed,
    ReplicaState,
    Replicate,
    Replicated,
    Verified,
    Verify,
)
from common.protocol.vectors import VECTOR_ENTRIES
from common.telemetry.request_context import RequestContext

VERSION = 4

Request = (
    Ping
    | Inspect
    | ListLeases
    | Lookup
    | Register
    | Deregister
    | Append
    | Read
    | Tail
    | Describe
    | Join
    | Heartbeat
    | Replicate
    | Renew
    | Fence
    | Admit
    | Bootstrap
    | Digest
    | ListEntries
    | Verify
)
Reply = (
    Status
    | Report
    | Leases
    | LookupResult
    | LeaseGranted
    | Appended
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

# Frames that are longer than this are unpacked with msgpack first. It rejects an array that is too long before it reads
# the items; msgspec checks the length afterwards, which takes 0.3 s for a frame of 1 MB.
SCANNED_BYTES = 65_536
Decoded = TypeVar("Decoded", Request, Reply)
FRAME_FIELDS = ("v", "context")  # fields that every frame may have; see WireMessage

_REQUEST_TYPES, _REPLY_TYPES = (
    {kind.__struct_config__.tag: kind for kind in get_args(kinds)} for kinds in (Request, Reply)
)
# msgspec 0.22 inspects the types of a struct at their first use, and crashes the process if two threads trigger that at
# once. These decoders make it inspect all types at import.
_request_decoder: "msgspec.msgpack.Decoder[Request]" = msgspec.msgpack.Decoder(Request)
_reply_decoder: "msgspec.msgpack.Decoder[Reply]" = msgspec.msgpack.Decoder(Reply)
_encoder = msgspec.msgpack.Encoder()


def encode(message: Request | Reply, context: RequestContext | None = None) -> bytes:
    """The frame of a message; `context` is the request context of a request."""
    return _encoder.encode(replace(message, v=VERSION, context=context or UNSET))


def decode_request(frame: bytes) -> tuple[Request, RequestContext | None]:
    """The request in a frame and its request context; raises InvalidMessageError for any other bytes."""
    return _decode(_request_decoder, frame, REQUEST_BYTES, _REQUEST_TYPES)


def decode_reply(frame: bytes) -> Reply:
    """The reply in a frame; raises InvalidMessageError for any other bytes."""
    return _decode(_reply_decoder, frame, REPLY_BYTES, _REPLY_TYPES)[0]


def _decode(
    decoder: "msgspec.msgpack.Decoder[Decoded]", frame: bytes, limit_bytes: int, kinds: Mapping[str, type[WireMessage]]
) -> tuple[Decoded, RequestContext | None]:
    if len(frame) > limit_bytes:
        raise InvalidMessageError(f"a frame of {len(frame)} bytes is over the limit of {limit_bytes}")
    if len(frame) > SCANNED_BYTES:
        _unpack(frame)
    try:
        message = decoder.decode(frame)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise InvalidMessageError(_reason(_unpack(frame), kinds, error)) from error
    if message.v != VERSION:
        raise InvalidMessageError(_other_version(message.v or None))
    context = message.context or None
    force_setattr(message, "v", 0)
    force_setattr(message, "context", UNSET)
    return message, context


def _unpack(frame: bytes) -> object:
    """The msgpack content of a frame, message or not; raises InvalidMessageError beyond the limits of messages."""
    try:
        return msgpack.unpackb(
            frame,
            ext_hook=_no_extension,
            max_array_len=VECTOR_ENTRIES,
            max_map_len=32,  # more fields than any message has
            max_bin_len=0,
            max_ext_len=0,
        )
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        reason = str(error)[:200] or type(error).__name__
        raise InvalidMessageError(f"a frame is not msgpack of ours: {reason}") from error


def _reason(fields: object, kinds: Mapping[str, type[WireMessage]], error: Exception) -> str:
    """The reason why a frame with this content is invalid; also tells another protocol version from a wrong message."""
    if not isinstance(fields, dict):
        return f"a frame must be a msgpack map, not {type(fields).__name__}"
    if (version := fields.get("v")) != VERSION:
        return _other_version(version)
    name = fields.get("type")
    kind = kinds.get(name) if isinstance(name, str) else None
    if kind is None:
        return f"{_shown(name)} is no type of message here (known types: {', '.join(kinds)})"
    return f"{kind.__name__}: {str(error)[:400]}"


def _other_version(version: object) -> str:
    return f"protocol version {_shown(version)} is not {VERSION}, the only supported one"


def _shown(value: object) -> str:
    """A value as a short text; only the type of a container, because it may be nested very deeply."""
    return repr(value)[:40] if isinstance(value, str | int | float | None) else type(value).__name__


def _no_extension(code: int, _data: bytes) -> object:
    raise ValueError(f"extension type {code} is not used")
