"""The bodies of requests and responses. The texts of the fields appear in the description of the API."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from common.protocol.content import UUID
from common.protocol.search import NAME_CHARACTERS

Id = Annotated[
    str,
    Meta(
        description="A UUIDv7: ids sort by the time at which they were made",
        pattern=f"^{UUID}$",
        examples=["01a20c21-40b9-743e-8cff-65c316df4a96"],
    ),
]
Time = Annotated[
    str, Meta(description="Time at which the id was made (RFC 3339, UTC)", extra_json_schema={"format": "date-time"})
]
Text = Annotated[str, Meta(description="The text: at most 65,536 bytes of UTF-8", min_length=1, max_length=65_536)]


Fields = Annotated[
    dict[str, str | float | bool], Meta(description="Fields of the message: text, numbers and booleans by name")
]
FieldName = Annotated[str, Meta(min_length=1, max_length=NAME_CHARACTERS)]
NewFields = Annotated[
    dict[FieldName, str | float | bool],
    Meta(description="At most 32 fields, 4,096 bytes as JSON: text, numbers and booleans by name", max_length=32),
]
Key = Annotated[
    str,
    Meta(description="Idempotency key: a message with the same key is stored once", pattern="^[!-~]{1,255}$"),
]


class NewMessage(Struct, frozen=True):
    """A message to store."""

    msg: Text


class NewRecord(NewMessage, frozen=True, forbid_unknown_fields=True):
    """A message to store, with fields and an idempotency key of its own."""

    fields: NewFields | UnsetType = UNSET
    key: Key | UnsetType = UNSET


class StoredReply(Struct, frozen=True):
    """The response to `POST /facade`."""

    status: Annotated[Literal["success"], Meta(description="Always `success`; any failure is a problem document")]
    uuid: Id


class LogsReply(Struct, frozen=True):
    """The response to `GET /facade`."""

    logs: Annotated[list[str], Meta(description="The texts of all messages, in the order of their ids")]
    message: Annotated[str, Meta(description="The static text of the messages service")]


class StoredMessage(Struct, frozen=True):
    """A message that was stored."""

    id: Id
    time: Time


class MessageBody(Struct, frozen=True):
    """A message."""

    id: Id
    time: Time
    msg: Annotated[str, Meta(description="Text of the message")]
    fields: Fields | UnsetType = UNSET
    node: Annotated[str, Meta(description="host:port of the node that accepted it; missing if unknown")] | (
        UnsetType
    ) = UNSET


class MessagePage(Struct, frozen=True):
    """A page of messages in the requested order."""

    messages: Annotated[list[MessageBody], Meta(description="At most `limit` messages, with about 1 MiB of text")]
    next: Annotated[
        str | None, Meta(description="Cursor of the next page, for the parameter `after`; null on the last page")
    ]


class BatchResult(Struct, frozen=True):
    """The result for one message of a batch: id and time of a valid message, index and error of a failed one."""

    id: Id | UnsetType = UNSET
    time: Time | UnsetType = UNSET
    replayed: Annotated[Literal[True], Meta(description="The message was already stored under its key")] | UnsetType = (
        UNSET
    )
    index: Annotated[int, Meta(description="Position in the batch, from 0", ge=0)] | UnsetType = UNSET
    message: Annotated[str, Meta(description="Why it is not, or may not be, stored: one sentence")] | UnsetType = UNSET


class BatchResults(Struct, frozen=True):
    """The results of a batch."""

    results: Annotated[list[BatchResult], Meta(description="One result for each message, in the order of the batch")]


class OtlpRequest(Struct, frozen=True, rename="camel"):
    """ExportLogsServiceRequest of OTLP 1.0."""

    resource_logs: Annotated[list[dict[str, Any]] | None, Meta(description="ResourceLogs of OTLP")] | UnsetType = UNSET


class OtlpPartialSuccess(Struct, frozen=True, rename="camel"):
    """What was not stored of a request."""

    rejected_log_records: Annotated[str, Meta(description="Number of records that are not valid")]
    error_message: Annotated[str, Meta(description="Why the first of them is not")]


class OtlpResponse(Struct, frozen=True, rename="camel"):
    """ExportLogsServiceResponse of OTLP 1.0."""

    partial_success: OtlpPartialSuccess | UnsetType = UNSET


class HealthStatus(Struct, frozen=True):
    """The health of a facade: alive, or ready to store messages."""

    status: Annotated[Literal["alive", "ready"], Meta(description="`alive` from `/livez`, `ready` from `/readyz`")]
    draining: Annotated[bool, Meta(description="With `verbose`: this facade is stopping")] | UnsetType = UNSET
    logging_nodes: (
        Annotated[dict[str, str], Meta(description="With `verbose`: the state of each logging node, by host:port")]
        | UnsetType
    ) = UNSET


class ClientLimits(Struct, frozen=True, kw_only=True):
    """The limits of a facade. A request that exceeds one is refused with an error that names the limit."""

    message_bytes: Annotated[int, Meta(description="Maximum size of one text in bytes of UTF-8")]
    fields: Annotated[int, Meta(description="Maximum number of fields of one message")]
    fields_bytes: Annotated[int, Meta(description="Maximum size of the fields of one message, as JSON")]
    body_bytes: Annotated[int, Meta(description="Maximum size of a body with one message")]
    batch_bytes: Annotated[int, Meta(description="Maximum size of a body with many messages")]
    batch_messages: Annotated[int, Meta(description="Maximum number of messages in one request")]
    page_messages: Annotated[int, Meta(description="Maximum of the parameter `limit`")]
    url_bytes: Annotated[int, Meta(description="Maximum length of a URL")]
    header_bytes: Annotated[int, Meta(description="Maximum size of all headers of a request")]
    idempotency_key_characters: Annotated[int, Meta(description="Maximum length of an `Idempotency-Key`")]
    request_id_characters: Annotated[int, Meta(description="Maximum length of `X-Request-ID`; longer ones are ignored")]
    receive_s: Annotated[float, Meta(description="Maximum seconds to receive the head of a request")]
    body_bytes_per_s: Annotated[int, Meta(description="Minimum rate of a body in bytes per second, after `receive_s`")]
    deadline_s: Annotated[float, Meta(description="Seconds after which a request is answered with 503")]
    streams: Annotated[int, Meta(description="Maximum number of open streams; one more gets 503")]
    queued: Annotated[int, Meta(description="Maximum number of waiting requests; one more gets 503 at once")]
    connections: Annotated[int, Meta(description="Maximum number of connections; others get only health and status")]
    client_rate: Annotated[str, Meta(description="Maximum rate of one client, such as `100/second`; empty: no limit")]


class Problem(Struct, frozen=True):
    """The body of an error response (RFC 9457). Those of `/facade` have `status: "failure"` and no `detail`."""

    type: Annotated[str, Meta(description="URI of the kind of error; `about:blank` if the HTTP status says all")]
    title: Annotated[str, Meta(description="Reason phrase of the HTTP status")]
    status: Annotated[int | Literal["failure"], Meta(description="The HTTP status; `failure` from `/facade`")]
    message: Annotated[str, Meta(description="The same as `detail`, for older clients")]
    request_id: Annotated[str, Meta(description="Id by which the request can be found in the logs")]
    traceparent: Annotated[str, Meta(description="Trace of the request (W3C Trace Context)")]
    detail: Annotated[str, Meta(description="One sentence: what is wrong, and what is allowed")] | UnsetType = UNSET
    uuid: (
        Annotated[str, Meta(description="Id of a message that was sent to a node and may still be stored")] | UnsetType
    ) = UNSET
    results: (
        Annotated[list[BatchResult], Meta(description="Results of a batch that was not stored completely")] | UnsetType
    ) = UNSET
    draining: Annotated[bool, Meta(description="From `/readyz?verbose`")] | UnsetType = UNSET
    logging_nodes: Annotated[dict[str, str], Meta(description="From `/readyz?verbose`")] | UnsetType = UNSET


Lines = Annotated[Any, Meta(description="One MessageBody as JSON in each line")]
Events = Annotated[
    Any,
    Meta(
        description="Server-sent events: `id` is the id of a message, `data` the message as JSON; to resume, a client "
        "sends `Last-Event-ID`"
    ),
]
