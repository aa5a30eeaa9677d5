"""The operations of the API as a table, from which `description` makes the OpenAPI document."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from msgspec import Meta

from common.protocol.content import UUID
from common.protocol.messages import PAGE_MESSAGES
from common.protocol.search import CONTAINS_CHARACTERS
from facade.api.body import DEFAULT, JSON, NDJSON, TEXT
from facade.api.content.otlp import PROTOBUF
from facade.api.query import LIMIT
from facade.api.schema import (
    BatchResults,
    ClientLimits,
    Events,
    FieldName,
    HealthStatus,
    Id,
    Lines,
    LogsReply,
    MessageBody,
    MessagePage,
    NewMessage,
    NewRecord,
    OtlpRequest,
    OtlpResponse,
    StoredMessage,
    StoredReply,
    Text,
)
from facade.status.schema import ClusterStatus, RequestRateHistory

EVENTS = "text/event-stream"

Named = dict[str, tuple[Any, str]]  # type and description by name


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    Attributes:
        id: the name of the operation in generated clients.
        summary: one line.
        answers: types of the bodies of successful responses, by status and media type.
        fails: statuses of error responses, besides 500.
        body: types of the request body, by media type.
        query, headers: parameters of the request.
        response_headers: headers of successful responses.
        links: follow-up operations, with the pointers into the response that give their path parameters.
    """

    id: str
    summary: str
    answers: Mapping[int, Mapping[str, Any]]
    fails: tuple[int, ...] = ()
    body: Mapping[str, Any] = field(default_factory=dict)
    query: Named = field(default_factory=dict)
    headers: Named = field(default_factory=dict)
    response_headers: Named = field(default_factory=dict)
    links: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


_Key = Annotated[
    str,
    Meta(
        pattern='^("[!-~]{1,255}"|[!#-~][!-~]{0,254}|"[!-~]{0,253}[!#-~]|")$',
        description="1 to 255 visible ASCII characters; a pair of quotes around them is not part of the key",
    ),
]
_Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
_Cursor = Annotated[str, Meta(pattern=f"^({UUID})?$")]
_Wanted = Annotated[str, Meta(max_length=CONTAINS_CHARACTERS)]
_Batch = Annotated[list[NewRecord], Meta(min_length=1, max_length=DEFAULT.batch_messages)]

_NewLines = Annotated[NewRecord, Meta(description="One such object in each line")]

_NODE: Named = {"X-Logging-Node": (str, "host:port of the logging node that answered")}
_KEY: Named = {"Idempotency-Key": (_Key, "Repeating a post with the same key does not store the message again")}
_REPLAYED: Named = {"Idempotent-Replayed": (Literal["true"], "The message was already stored under its key")}
_WRITE_FAILS = (400, 413, 415, 422, 503)

IN_PATHS: Named = {"message_id": (Id, "Id of a message")}

OPERATIONS: Mapping[str, Mapping[str, Operation]] = {
    "/facade": {
        "post": Operation(
            "post",
            "Store one message",
            {200: {JSON: StoredReply}},
            _WRITE_FAILS,
            {JSON: NewMessage},
            {},
            _KEY,
            _NODE | _REPLAYED,
        ),
        "get": Operation("read", "All messages", {200: {JSON: LogsReply}}, (503,), response_headers=_NODE),
    },
    "/v1/messages": {
        "post": Operation(
            "postMessages",
            "Store one message (201), or a batch (200) with a result for each message",
            {201: {JSON: StoredMessage}, 200: {JSON: BatchResults}},
            _WRITE_FAILS,
            {JSON: NewRecord | _Batch, NDJSON: _NewLines, TEXT: Text},
            query={
                "msg_field": (FieldName, "The member of each record that has its text; all others become fields"),
                "time_field": (FieldName, "The member of each record that has its time; only with msg_field"),
            },
            headers=_KEY,
            response_headers=_NODE | _REPLAYED,
            links={"getMessage": {"message_id": "$response.body#/id"}},
        ),
        "get": Operation(
            "listMessages",
            "One page; all messages for Accept: application/x-ndjson; new messages for text/event-stream",
            {200: {JSON: MessagePage, NDJSON: Lines, EVENTS: Events}},
            (400, 503),
            query={
                "after": (_Cursor, "Only messages after this id; also for server-sent events"),
                "contains": (_Wanted, "Only messages whose text contains this, in any case; also for events"),
                "field.NAME": (_Wanted, "Only messages whose field NAME has this value, in any case; also for events"),
                "order": (Literal["asc", "desc"], "Ascending or descending order of the ids"),
                "from": (_Moment, "Only messages whose ids were made at or after this time (RFC 3339)"),
                "to": (_Moment, "Only messages whose ids were made before this time (RFC 3339)"),
                "limit": (
                    Annotated[int, Meta(ge=1, le=PAGE_MESSAGES)],
                    f"Most messages in a page, by default {LIMIT}; only for JSON",
                ),
            },
            response_headers=_NODE,
        ),
    },
    "/v1/messages/{message_id}": {
        "get": Operation(
            "getMessage", "One message", {200: {JSON: MessageBody}}, (400, 404, 503), response_headers=_NODE
        )
    },
    "/v1/logs": {
        "post": Operation(
            "postLogs",
            "Store log records of OpenTelemetry (OTLP)",
            {200: {JSON: OtlpResponse, PROTOBUF: bytes}},
            _WRITE_FAILS,
            {JSON: OtlpRequest, PROTOBUF: bytes},
            response_headers=_NODE,
        )
    },
    "/v1/cluster": {"get": Operation("getCluster", "Current status of the cluster", {200: {JSON: ClusterStatus}})},
    "/v1/history": {"get": Operation("getHistory", "Recent request rate", {200: {JSON: RequestRateHistory}})},
    "/v1/limits": {"get": Operation("getLimits", "Limits on requests", {200: {JSON: ClientLimits}})},
    "/livez": {"get": Operation("live", "Liveness: the process runs", {200: {JSON: HealthStatus}})},
    "/readyz": {
        "get": Operation(
            "ready",
            "Readiness: a message can be stored now",
            {200: {JSON: HealthStatus}},
            (503,),
            query={"verbose": (str, "If given, report the state of each logging node")},
        )
    },
    "/metrics": {"get": Operation("metrics", "Metrics for Prometheus", {200: {TEXT: str}})},
    "/openapi.json": {"get": Operation("openapi", "This description of the API", {200: {JSON: dict[str, Any]}})},
}
