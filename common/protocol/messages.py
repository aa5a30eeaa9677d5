"""The messages between processes: what may be said. Those between logging nodes are in `common.replication`.

`common.codec` makes frames of messages and messages of frames. When it decodes a frame it checks all types and limits,
so a message that was received is valid. A constructor checks neither, but for rules that need two fields or the bytes
of a text: those raise InvalidMessageError.
"""

import enum
from typing import Annotated, NamedTuple

from msgspec import UNSET, Meta, Struct, UnsetType

from common.errors import InvalidMessageError
from common.protocol.vectors import Incarnation, Sequence, Vector
from common.telemetry.request_context import RequestContext

MESSAGE_BYTES = 65_536  # of one text in UTF-8: a log line with a long stack trace is below 10 kB
PAGE_MESSAGES = 1_000  # most messages in one page: 6 ms at the members (docs/measurements.md)
TAIL_S = 1.0  # for which a logging node keeps a Tail waiting when it has nothing new
PAGE_BYTES = 1_048_576  # of text in one page; a page stops after the message that reaches it
REQUEST_BYTES = 1_048_576  # of one frame to a server: a batch of PAGE_MESSAGES
REPLY_BYTES = 4_194_304  # of one frame to a client: PAGE_BYTES, one text more, and 64 bytes around each message

UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
# `\Z`, for `$` would let a newline follow.
MessageId = Annotated[str, Meta(pattern=rf"^{UUID}\Z")]  # a UUID in its canonical text form
Cursor = Annotated[str, Meta(pattern=rf"^({UUID})?\Z")]  # a MessageId, or "" before the first
Name = Annotated[str, Meta(min_length=1, max_length=64)]
IdempotencyKey = Annotated[str, Meta(pattern="^[\x21-\x7e]{1,255}\\Z")]  # visible ASCII
Text = Annotated[str, Meta(max_length=MESSAGE_BYTES)]
Milliseconds = Annotated[float, Meta(ge=0)]  # that a node took for a request
REASON_CHARACTERS = 1_000
Reason = Annotated[str, Meta(max_length=REASON_CHARACTERS)]


class WireMessage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag=str.lower):
    """The base of all messages.

    Attributes:
        v: the version of the protocol; 0 outside of a frame.
        context: the client's request that caused this one; unset outside of a frame. `common.codec` sets both.
    """

    v: int = 0
    context: RequestContext | UnsetType | None = UNSET


class Ping(WireMessage, frozen=True, kw_only=True):
    """Asks any server: who are you, and can you serve? Answered by Status."""


class Lookup(WireMessage, frozen=True, kw_only=True):
    """Asks the registry for what it knows under `name`. Answered by Known."""

    name: Name


class Register(WireMessage, frozen=True, kw_only=True):
    """Tells a registry that `address` serves `name`, and renews its lease. Answered by Leased.

    Logging nodes use `common.replication.Renew` instead.
    """

    name: Name
    address: Name


class Deregister(WireMessage, frozen=True, kw_only=True):
    """Tells a registry that `address` serves `name` no more. Answered by Leased."""

    name: Name
    address: Name


class Append(WireMessage, frozen=True, kw_only=True):
    """Asks a logging node to store messages, each once. Answered by Appended when all are stored, not before.

    Attributes:
        entries: the messages, with their ids.
        key: an idempotency key, for a request with one message. The message is stored under the id with which the key
            came first; it is refused (CONFLICT) if the key came with another text before.
        forwarded: another logging node passes the request on, because the receiver decides about the key.
        contexts: the client request that each message belongs to, if several clients' messages travel together.
    """

    entries: Annotated[tuple["Entry", ...], Meta(max_length=PAGE_MESSAGES)]
    key: IdempotencyKey | None = None
    forwarded: bool = False
    contexts: Annotated[tuple[RequestContext, ...], Meta(max_length=PAGE_MESSAGES)] = ()

    def __post_init__(self) -> None:
        if self.contexts and len(self.contexts) != len(self.entries):
            raise InvalidMessageError(f"Append: {len(self.contexts)} contexts for {len(self.entries)} entries")
        if self.key is not None and len(self.entries) != 1:
            raise InvalidMessageError(f"Append: one key for {len(self.entries)} entries, it belongs to one")
        for entry in self.entries:
            if not entry.msg.isascii() and text_bytes(entry.msg) > MESSAGE_BYTES:
                raise InvalidMessageError(f"Append: msg is over {MESSAGE_BYTES} bytes of UTF-8")


class Read(WireMessage, frozen=True, kw_only=True):
    """Asks a logging node for messages with an id above `after` and below `before`, at most `limit`. Answered by Page.

    An empty bound is none. `newest_first` begins at the other end. `session` is what the client has seen so far: a
    logging node that has less answers BEHIND.
    """

    after: Cursor
    limit: Annotated[int, Meta(ge=1, le=PAGE_MESSAGES)]
    before: Cursor = ""
    newest_first: bool = False
    session: Vector = ()


class Tail(WireMessage, frozen=True, kw_only=True):
    """Asks a logging node for what its journal (by name, "" for unknown) got after the number `after`.

    Answered by Tailed when there is something new, or after TAIL_S, in the order in which the journal got it; from
    another journal there is only its end.
    """

    journal: Annotated[str, Meta(max_length=64)]
    after: Annotated[int, Meta(ge=0)]


class Describe(WireMessage, frozen=True, kw_only=True):
    """Asks the messages node for its static text. Answered by Description."""


class LookupResult(WireMessage, frozen=True, kw_only=True):
    """What the registry knows under `name`: addresses, or settings."""

    name: Name
    values: Annotated[tuple[str, ...], Meta(max_length=1_000)]


class LeaseGranted(WireMessage, frozen=True, kw_only=True):
    """The registry hands out the address for `seconds` from now, and longer when the lease is renewed."""

    seconds: Annotated[float, Meta(ge=0)]


class Appended(WireMessage, frozen=True, kw_only=True):
    """The messages are stored.

    Attributes:
        node: host:port of the node that accepted them.
        stored_as: the id under which a message with an idempotency key is stored; empty without a key.
        took_ms: milliseconds that the node took.
        origin, sequence: the incarnation of that node, and the number of the last record in it.
    """

    node: Name
    stored_as: Cursor = ""
    took_ms: Milliseconds = 0.0
    origin: Incarnation = 0
    sequence: Sequence = 0


class Entry(NamedTuple):
    """One stored message."""

    id: MessageId
    msg: Text


class Page(WireMessage, frozen=True, kw_only=True):
    """Messages in the order that was asked for, and the cursor to go on from, or None when these were the last.

    `vector` is what the node had: the entries that changed since it started.
    """

    entries: Annotated[tuple[Entry, ...], Meta(max_length=PAGE_MESSAGES)]
    next: Cursor | None
    node: Name
    took_ms: Milliseconds = 0.0
    vector: Vector = ()


class Tailed(WireMessage, frozen=True, kw_only=True):
    """What the journal of that name got, up to its number `next`, and whether there is more already.

    `nodes` (host:port) accepted the entries, "" where it is not known.
    """

    journal: Name
    entries: Annotated[tuple[Entry, ...], Meta(max_length=PAGE_MESSAGES)]
    next: Annotated[int, Meta(ge=0)]
    more: bool
    node: Name
    nodes: Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=PAGE_MESSAGES)] = ()

    def __post_init__(self) -> None:
        if self.nodes and len(self.nodes) != len(self.entries):
            raise InvalidMessageError(f"Tailed: {len(self.nodes)} nodes for {len(self.entries)} entries")


class Description(WireMessage, frozen=True, kw_only=True):
    """The static text of the messages node."""

    text: Text


class State(enum.StrEnum):
    """What a server can do now."""

    STARTING = "starting"  # its Hazelcast member is not up yet
    FORMING = "forming"  # its member runs, and waits for the others
    JOINING = "joining"  # it is not in sync: it takes from the other replicas what it lacks
    READY = "ready"
    LEAVING = "leaving"  # it was told to stop, and finishes what it has taken


class Status(WireMessage, frozen=True, kw_only=True):
    """Who answers at this address, what it can do now, and how many Hazelcast members it sees."""

    service: Name
    state: State
    members: int = 0


class Code(enum.StrEnum):
    """Why a server refuses or failed."""

    INVALID = "invalid"  # not a valid request for this server: never send it again
    UNKNOWN_NAME = "unknown-name"  # the registry has nothing under that name
    OVERLOADED = "overloaded"  # too many requests in flight: nothing was done
    STARTING = "starting"  # not ready, for whatever reason: nothing was done
    BEHIND = "behind"  # the client has seen more than this node has: nothing was read
    FORBIDDEN = "forbidden"  # its key does not speak for the address that it names, or went: nothing was done
    AHEAD = "ahead"  # the time of an id is too far ahead of the clock of the node: nothing was done
    CONFLICT = "conflict"  # the idempotency key belongs to another text: nothing was done, and nothing ever will be
    FAILED = "failed"  # it broke on the way: it may have been done


class Failure(WireMessage, frozen=True, kw_only=True):
    """A server's answer when there is no better one."""

    code: Code
    reason: Reason


def failure(code: Code, reason: str) -> Failure:
    """The answer with a reason of any length, which is cut at REASON_CHARACTERS."""
    return Failure(code=code, reason=reason[:REASON_CHARACTERS])


def text_bytes(text: str) -> int:
    """The length of `text` in bytes of UTF-8.

    Raises:
        InvalidMessageError: the text holds a lone surrogate, which UTF-8 cannot carry.
    """
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidMessageError(f"msg is not valid Unicode text: {error.reason} at {error.start}") from error
