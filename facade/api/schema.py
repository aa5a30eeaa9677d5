"""The bodies of requests and answers about messages. The texts beside the fields are those of the API's description."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from common.protocol.messages import UUID

Id = Annotated[
    str,
    Meta(
        description="UUIDv7: the order of the ids is the order of the times at which they were made",
        pattern=f"^{UUID}$",
        examples=["01a20c21-40b9-743e-8cff-65c316df4a96"],
    ),
]
Time = Annotated[
    str, Meta(description="RFC 3339, in UTC: when the id was made", extra_json_schema={"format": "date-time"})
]
Text = Annotated[str, Meta(description="the text: at most 65,536 bytes of UTF-8", min_length=1, max_length=65_536)]


class NewMessage(Struct, frozen=True):
    """A message to store."""

    msg: Text


class StoredReply(Struct, frozen=True):
    """What `POST /facade` answers."""

    status: Annotated[Literal["success"], Meta(description="always `success`: else the answer is a problem")]
    uuid: Id


class LogsReply(Struct, frozen=True):
    """What `GET /facade` answers."""

    logs: Annotated[list[str], Meta(description="the texts of all messages, in the order of their ids")]
    message: Annotated[str, Meta(description="the static text of the messages service")]


class StoredMessage(Struct, frozen=True):
    """A message that is stored."""

    id: Id
    time: Time


class MessageBody(Struct, frozen=True):
    """A message."""

    id: Id
    time: Time
    msg: Annotated[str, Meta(description="its text")]
    node: Annotated[str, Meta(description="host:port of the node that took it; only of one that has just come")] | (
        UnsetType
    ) = UNSET


class MessagePage(Struct, frozen=True):
    """Some messages in the order that was asked for."""

    messages: Annotated[list[MessageBody], Meta(description="at most `limit`, and about 1 MiB of text")]
    next: Annotated[
        str | None, Meta(description="the cursor of the next page, for `after`; null when there are no more")
    ]


class BatchResult(Struct, frozen=True):
    """What became of one message of a batch: an id and a time if it is, or perhaps is, stored; else what is wrong."""

    id: Id | UnsetType = UNSET
    time: Time | UnsetType = UNSET
    index: Annotated[int, Meta(description="its place in the batch, from 0", ge=0)] | UnsetType = UNSET
    message: Annotated[str, Meta(description="why it is not stored, in one sentence")] | UnsetType = UNSET


class BatchResults(Struct, frozen=True):
    """What became of a batch."""

    results: Annotated[list[BatchResult], Meta(description="one for each message, in their order")]


class HealthStatus(Struct, frozen=True):
    """That a facade lives, or is ready."""

    status: Annotated[Literal["alive", "ready"], Meta(description="what was asked for is so")]
    draining: Annotated[bool, Meta(description="with `verbose`: this facade was told to stop")] | UnsetType = UNSET
    logging_nodes: (
        Annotated[dict[str, str], Meta(description="with `verbose`: what each logging node says that it can do")]
        | UnsetType
    ) = UNSET


class ClientLimits(Struct, frozen=True, kw_only=True):
    """What a facade takes; what is over a limit is refused with a sentence that names it."""

    message_bytes: Annotated[int, Meta(description="of one text in UTF-8")]
    body_bytes: Annotated[int, Meta(description="of the body of one message")]
    batch_bytes: Annotated[int, Meta(description="of the body of many messages")]
    batch_messages: Annotated[int, Meta(description="in one request")]
    page_messages: Annotated[int, Meta(description="most that `limit` may be")]
    url_bytes: Annotated[int, Meta(description="of the first line of a request")]
    header_bytes: Annotated[int, Meta(description="of all headers of a request")]
    idempotency_key_characters: Annotated[int, Meta(description="of an `Idempotency-Key`")]
    request_id_characters: Annotated[int, Meta(description="of an `X-Request-ID`; a longer one is not taken")]
    receive_s: Annotated[float, Meta(description="seconds from the first byte of a request to its last")]
    deadline_s: Annotated[float, Meta(description="seconds for an answer; then 503")]
    streams: Annotated[int, Meta(description="answers that go on at once; one more is 503")]
    queued: Annotated[int, Meta(description="requests that may wait for their turn; one more is 503 at once")]
    connections: Annotated[int, Meta(description="at once; one more is taken for health and status alone")]
    client_rate: Annotated[str, Meta(description="requests of one client, as `100/second`; empty: no limit")]


class Problem(Struct, frozen=True):
    """Any answer that is no success (RFC 9457)."""

    type: Annotated[str, Meta(description="always `about:blank`: the status says what kind it is")]
    title: Annotated[str, Meta(description="the phrase of the HTTP status")]
    status: Annotated[Literal["failure"], Meta(description="always `failure`; older clients read it")]
    message: Annotated[str, Meta(description="one sentence: what is wrong, and what is allowed")]
    request_id: Annotated[str, Meta(description="by which the request is found in the logs")]
    traceparent: Annotated[str, Meta(description="its trace (W3C Trace Context)")]
    uuid: (
        Annotated[str, Meta(description="of a message that was sent to a node and may still be stored")] | UnsetType
    ) = UNSET
    results: Annotated[list[BatchResult], Meta(description="of a batch of which not all is stored")] | UnsetType = UNSET
    draining: Annotated[bool, Meta(description="of `/readyz?verbose`")] | UnsetType = UNSET
    logging_nodes: Annotated[dict[str, str], Meta(description="of `/readyz?verbose`")] | UnsetType = UNSET


Lines = Annotated[Any, Meta(description="a MessageBody as JSON in each line")]
Events = Annotated[
    Any,
    Meta(
        description="server-sent events: `id` is that of a message, `data` a message as JSON; a client that comes back "
        "sends `Last-Event-ID`"
    ),
]
