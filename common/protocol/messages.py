"""The messages between processes; `common.protocol.replication` has those for replication and the in-sync set.

`common.protocol.codec` encodes and decodes them. Decoding checks all types and limits, so a received message is valid.
mypy checks the types of messages that this code builds, and every receiver their limits: to check each message twice
would cost 3 us for each record of a batch. So a constructor checks only rules that neither of them can express, which
involve two fields or the length of a text in bytes, and raises InvalidMessageError.
"""

import enum
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from common.errors import InvalidMessageError
from common.protocol.content import (
    MESSAGE_BYTES,
    Cursor,
    Entry,
    MessageId,
    Text,
    text_bytes,
)
from common.protocol.search import NO_SEARCH, Search
from common.protocol.vectors import Vector
from common.telemetry.request_context import RequestContext

PAGE_MESSAGES = 1_000  # limit on the messages of one page; facades serve other requests after each page
TAIL_S = 1.0  # duration of the long poll of a Tail when there are no new messages
PAGE_BYTES = 1_048_576  # limit on the texts and fields of one page; a page ends after the message that reaches it
REQUEST_BYTES = 1_048_576  # limit on one frame to a server; fits a batch of PAGE_MESSAGES
REPLY_BYTES = 4_194_304  # limit on one frame to a client: PAGE_BYTES, one more message, 128 bytes for each message

Name = Annotated[str, Meta(min_length=1, max_length=64)]
Milliseconds = Annotated[float, Meta(ge=0)]  # the time that a node took for a request
REASON_CHARACTERS = 1_000  # two sentences with a path and an address; `failure` cuts longer ones
Reason = Annotated[str, Meta(max_length=REASON_CHARACTERS)]


class WireMessage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag=str.lower):
    """The base of all messages.

    Attributes:
        v: the protocol version; 0 outside of a frame.
        context: the context of the client request that caused this one; unset outside of a frame.

    Only `common.protocol.codec` sets both.
    """

    v: int = 0
    context: RequestContext | UnsetType | None = UNSET


class Ping(WireMessage, frozen=True, kw_only=True):
    """Asks any server what it is and whether it can serve. Answered by Status."""


class Lookup(WireMessage, frozen=True, kw_only=True):
    """Asks the registry for the values under `name`. Answered by LookupResult."""

    name: Name


class Register(WireMessage, frozen=True, kw_only=True):
    """Registers `address` for the service `name` at a registry, or renews its lease. Answered by LeaseGranted.

    Logging nodes use `common.protocol.replication.Renew` instead.
    """

    name: Name
    address: Name


class Deregister(WireMessage, frozen=True, kw_only=True):
    """Removes the registration of `address` for the service `name` at a registry. Answered by LeaseGranted."""

    name: Name
    address: Name


class Append(WireMessage, frozen=True, kw_only=True):
    """Asks a logging node to store messages, each exactly once. Answered by Appended when all are stored.

    Attributes:
        entries: the messages with their ids. A message with an idempotency key is stored under the id of the first
            message with this key, and is not stored if that message has another content.
        forwarded: another logging node forwards the request, because the receiver decides about its key.
        contexts: the request context of each message, if the batch has messages of several client requests.
    """

    entries: Annotated[tuple[Entry, ...], Meta(max_length=PAGE_MESSAGES)]
    forwarded: bool = False
    contexts: Annotated[tuple[RequestContext, ...], Meta(max_length=PAGE_MESSAGES)] = ()

    def __post_init__(self) -> None:
        if self.contexts and len(self.contexts) != len(self.entries):
            raise InvalidMessageError(f"Append: {len(self.contexts)} contexts for {len(self.entries)} entries")
        for entry in self.entries:
            if not entry.msg.isascii() and text_bytes(entry.msg) > MESSAGE_BYTES:
                raise InvalidMessageError(f"Append: msg is over {MESSAGE_BYTES} bytes of UTF-8")


class Read(WireMessage, frozen=True, kw_only=True):
    """Asks a logging node for messages in the order of their ids. Answered by Page.

    Attributes:
        after, before: exclusive bounds of the ids; "" for no bound.
        limit: the largest number of messages.
        newest_first: descending order, starting at `before`.
        search: only messages that match; then a page may be short, even empty, although `next` continues it.
        session: the session vector of the client; a logging node that lacks any of it answers BEHIND.
    """

    after: Cursor
    limit: Annotated[int, Meta(ge=1, le=PAGE_MESSAGES)]
    before: Cursor = ""
    newest_first: bool = False
    search: Search = NO_SEARCH
    session: Vector = ()


class Tail(WireMessage, frozen=True, kw_only=True):
    """Asks a logging node for new messages, in the order in which its journal stored them. Answered by Tailed.

    A long poll: the answer is sent when there are new messages, or after TAIL_S.

    Attributes:
        journal: the name of the journal; "" if unknown. A node with another journal answers without messages, only with
            the current end of its journal.
        after: the number of the last message in that journal that the client has.
    """

    journal: Annotated[str, Meta(max_length=64)]
    after: Annotated[int, Meta(ge=0)]


class Describe(WireMessage, frozen=True, kw_only=True):
    """Asks the messages node for its static text. Answered by Description."""


class LookupResult(WireMessage, frozen=True, kw_only=True):
    """The values under `name` at the registry: the addresses of a service, or a setting."""

    name: Name
    values: Annotated[tuple[str, ...], Meta(max_length=1_000)]


class LeaseGranted(WireMessage, frozen=True, kw_only=True):
    """Confirms a lease: lookups return the address for `seconds` from now, and longer if the lease is renewed."""

    seconds: Annotated[float, Meta(ge=0)]


class Appended(WireMessage, frozen=True, kw_only=True):
    """Confirms that the messages are stored, except conflicts.

    Attributes:
        node: host:port of the node that the client asked.
        stored_as: the id under which each message is stored, in the order of the request; empty if no message has an
            idempotency key, so that each is stored under its own id.
        conflicts: the places, from 0, of messages whose idempotency key belongs to another content; they are not
            stored.
        expired: the places of messages that are not stored, because retention has removed newer ones already.
        took_ms: milliseconds that the node took.
        vector: the incarnations that accepted the messages, and the origin sequence of the last one of each.
    """

    node: Name
    stored_as: Annotated[tuple[MessageId, ...], Meta(max_length=PAGE_MESSAGES)] = ()
    conflicts: Annotated[tuple[Annotated[int, Meta(ge=0)], ...], Meta(max_length=PAGE_MESSAGES)] = ()
    expired: Annotated[tuple[Annotated[int, Meta(ge=0)], ...], Meta(max_length=PAGE_MESSAGES)] = ()
    took_ms: Milliseconds = 0.0
    vector: Vector = ()


class Page(WireMessage, frozen=True, kw_only=True):
    """Messages in the requested order.

    Attributes:
        entries: the messages.
        next: the cursor with which to request the next page; None if this is the last page.
        node: host:port of the node that answers.
        took_ms: milliseconds that the node took.
        vector: the version vector of the node at the time of the read; only entries that changed since it started.
    """

    entries: Annotated[tuple[Entry, ...], Meta(max_length=PAGE_MESSAGES)]
    next: Cursor | None
    node: Name
    took_ms: Milliseconds = 0.0
    vector: Vector = ()


class Tailed(WireMessage, frozen=True, kw_only=True):
    """New messages of a journal, in the order in which it stored them.

    Attributes:
        journal: the name of the journal.
        entries: the messages.
        next: the number in the journal up to which these are all messages, for the next Tail.
        more: the journal has more messages already.
        node: host:port of the node that answers.
    """

    journal: Name
    entries: Annotated[tuple[Entry, ...], Meta(max_length=PAGE_MESSAGES)]
    next: Annotated[int, Meta(ge=0)]
    more: bool
    node: Name


class Description(WireMessage, frozen=True, kw_only=True):
    """The static text of the messages node."""

    text: Text


class State(enum.StrEnum):
    """The state of a server."""

    STARTING = "starting"  # its Hazelcast member is not up yet
    FORMING = "forming"  # its Hazelcast member runs, and waits for the others
    JOINING = "joining"  # it is not in sync, and catches up with the other replicas
    READY = "ready"
    LEAVING = "leaving"  # it is stopping, and finishes the requests that it has accepted


class Status(WireMessage, frozen=True, kw_only=True):
    """The kind of server at an address, its state, and the number of Hazelcast members that it sees."""

    service: Name
    state: State
    members: int = 0


class Code(enum.StrEnum):
    """The reason of a Failure; for all codes except FAILED, the request was not carried out."""

    INVALID = "invalid"  # not a valid request for this server; sending it again cannot help
    UNKNOWN_NAME = "unknown-name"  # the registry has no values under this name
    OVERLOADED = "overloaded"  # too many requests in flight
    STARTING = "starting"  # not ready, for any reason
    BEHIND = "behind"  # the session vector of the client is ahead of this node
    FORBIDDEN = "forbidden"  # the sender's key belongs to another address than the request names, or was removed
    AHEAD = "ahead"  # the time in an id is too far ahead of the node's clock
    FAILED = "failed"  # an error while the request was handled; it may have been carried out


class Failure(WireMessage, frozen=True, kw_only=True):
    """The reply of a server that refused a request or failed."""

    code: Code
    reason: Reason


def failure(code: Code, reason: str) -> Failure:
    """A Failure with a reason of any length, which is cut after REASON_CHARACTERS."""
    return Failure(code=code, reason=reason[:REASON_CHARACTERS])
