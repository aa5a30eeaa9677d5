"""What the paths of the API take and answer, as a table; `facade.documents.openapi` makes the description of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from msgspec import Meta

from common.protocol.messages import PAGE_MESSAGES, UUID
from facade.api.body import DEFAULT, JSON, NDJSON, TEXT
from facade.api.query import LIMIT
from facade.api.schema import (
    BatchResults,
    ClientLimits,
    Events,
    HealthStatus,
    Id,
    Lines,
    LogsReply,
    MessageBody,
    MessagePage,
    NewMessage,
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
        id: its name in generated clients.
        summary: one line.
        answers: what a success has, by status and media type.
        fails: statuses that have a problem, beside 500.
        body: what it takes, by media type.
        query, headers: its parameters.
        says: headers of a success.
        links: operations that go on from its answer, with the pointer to what their path needs.
    """

    id: str
    summary: str
    answers: Mapping[int, Mapping[str, Any]]
    fails: tuple[int, ...] = ()
    body: Mapping[str, Any] = field(default_factory=dict)
    query: Named = field(default_factory=dict)
    headers: Named = field(default_factory=dict)
    says: Named = field(default_factory=dict)
    links: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


_Key = Annotated[
    str,
    Meta(
        pattern='^("[!-~]{1,255}"|[!#-~][!-~]{0,254}|"[!-~]{0,253}[!#-~]|")$',
        description="1 to 255 visible ASCII characters; one pair of quotes around them is left out",
    ),
]
_Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
_Cursor = Annotated[str, Meta(pattern=f"^({UUID})?$")]
_Batch = Annotated[list[Any], Meta(min_length=1, max_length=DEFAULT.batch_messages)]

_NODE: Named = {"X-Logging-Node": (str, "host:port of the logging node that answered")}
_KEY: Named = {"Idempotency-Key": (_Key, "a post that is repeated with the same key stores nothing more")}
_REPLAYED: Named = {"Idempotent-Replayed": (Literal["true"], "its key had stored it before")}
_WRITE_FAILS = (400, 413, 415, 422, 503)

IN_PATHS: Named = {"message_id": (Id, "the id of a message")}

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
        "get": Operation("read", "All messages", {200: {JSON: LogsReply}}, (503,), says=_NODE),
    },
    "/v1/messages": {
        "post": Operation(
            "postMessages",
            "Store one message (201), or many (200): then each has its result",
            {201: {JSON: StoredMessage}, 200: {JSON: BatchResults}},
            _WRITE_FAILS,
            {JSON: NewMessage | _Batch, NDJSON: Lines, TEXT: Text},
            headers=_KEY,
            says=_NODE | _REPLAYED,
            links={"getMessage": {"message_id": "$response.body#/id"}},
        ),
        "get": Operation(
            "listMessages",
            "A page; with Accept: application/x-ndjson everything; with text/event-stream what comes",
            {200: {JSON: MessagePage, NDJSON: Lines, EVENTS: Events}},
            (400, 503),
            query={
                "after": (_Cursor, "on from the message with this id; the only parameter for server-sent events"),
                "order": (Literal["asc", "desc"], "of the ids"),
                "from": (_Moment, "what was made then or later (RFC 3339)"),
                "to": (_Moment, "what was made before then"),
                "limit": (
                    Annotated[int, Meta(ge=1, le=PAGE_MESSAGES)],
                    f"messages in a page, {LIMIT} when nothing is said; only for JSON",
                ),
            },
            says=_NODE,
        ),
    },
    "/v1/messages/{message_id}": {
        "get": Operation("getMessage", "One message", {200: {JSON: MessageBody}}, (400, 404, 503), says=_NODE)
    },
    "/v1/cluster": {"get": Operation("getCluster", "How the cluster is now", {200: {JSON: ClusterStatus}})},
    "/v1/history": {"get": Operation("getHistory", "The last five minutes", {200: {JSON: RequestRateHistory}})},
    "/v1/limits": {"get": Operation("getLimits", "What is taken", {200: {JSON: ClientLimits}})},
    "/livez": {"get": Operation("live", "That the process is alive", {200: {JSON: HealthStatus}})},
    "/readyz": {
        "get": Operation(
            "ready",
            "That a message can be stored now",
            {200: {JSON: HealthStatus}},
            (503,),
            query={"verbose": (str, "when it is there, each logging node is asked")},
        )
    },
    "/metrics": {"get": Operation("metrics", "For Prometheus", {200: {TEXT: str}})},
    "/openapi.json": {"get": Operation("openapi", "This description", {200: {JSON: dict[str, Any]}})},
}
