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
    """Keep positive cases valid: a key belongs to one text (otherwise 422) and to no batch (otherwise 400)."""
    key = (case.headers or {}).get("Idempotency-Key")
    if case.operation.method.lower() == "post" and key and case.meta and case.meta.generation.mode.is_positive:
        if isinstance(case.body, list) or case.media_type == "application/x-ndjson":
            del case.headers["Idempotency-Key"]
        else:
            case.headers["Idempotency-Key"] = uuid.uuid4().hex
