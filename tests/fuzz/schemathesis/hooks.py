"""What the description of the API cannot say, for schemathesis."""

import json
import uuid
from typing import Any

import schemathesis
from schemathesis import HookContext


@schemathesis.serializer("application/x-ndjson")  # without it this media type is never sent
def ndjson(_context: object, value: object) -> bytes:
    """Any JSON value is a line; a wrong one is told in its result."""
    return json.dumps(value).encode("utf-8", "surrogatepass")


@schemathesis.deserializer("application/x-ndjson")
def lines(_context: object, response: Any) -> list[object]:
    """The messages of an answer."""
    return [json.loads(line) for line in response.content.splitlines()]


@schemathesis.hook
def before_call(_context: HookContext, case: Any, _kwargs: dict[str, object]) -> None:
    """A key belongs to one text (else 422) and to no batch (else 400): rules between fields."""
    key = (case.headers or {}).get("Idempotency-Key")
    if case.operation.method.lower() == "post" and key and case.meta and case.meta.generation.mode.is_positive:
        if isinstance(case.body, list) or case.media_type == "application/x-ndjson":
            del case.headers["Idempotency-Key"]
        else:
            case.headers["Idempotency-Key"] = uuid.uuid4().hex
