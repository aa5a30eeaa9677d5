"""Hooks of schemathesis for rules that the OpenAPI description cannot express."""

import json
import uuid
from typing import Any

import schemathesis
from schemathesis import HookContext


@schemathesis.serializer("application/x-ndjson")  # without it this media type is never sent
def ndjson(_context: object, value: object) -> bytes:
    """Send any JSON value as one line; the answer reports a wrong line in its results."""
    return json.dumps(value).encode("utf-8", "surrogatepass")


@schemathesis.deserializer("application/x-ndjson")
def lines(_context: object, response: Any) -> list[object]:
    """The messages of an answer, one per line."""
    return [json.loads(line) for line in response.content.splitlines()]


@schemathesis.hook
def before_call(_context: HookContext, case: Any, _kwargs: dict[str, object]) -> None:
    """Keep positive cases valid: a key belongs to one message (otherwise 422) and to no batch (otherwise 400).

    A record has the members that msg_field and time_field name, so these are left out. A request of OTLP has none.
    """
    if not (case.operation.method.lower() == "post" and case.meta and case.meta.generation.mode.is_positive):
        return
    if case.operation.path == "/v1/logs":  # the description leaves out what is in OTLP's ResourceLogs
        case.body = {"resourceLogs": []}
        return
    for name in ("msg_field", "time_field"):
        (case.query or {}).pop(name, None)
    for message in case.body if isinstance(case.body, list) else [case.body]:
        if isinstance(message, dict) and "key" in message:
            message["key"] = uuid.uuid4().hex
    if (case.headers or {}).get("Idempotency-Key"):
        if isinstance(case.body, dict):
            case.body.pop("key", None)
        if isinstance(case.body, list) or case.media_type == "application/x-ndjson":
            del case.headers["Idempotency-Key"]
        else:
            case.headers["Idempotency-Key"] = uuid.uuid4().hex
