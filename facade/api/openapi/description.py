"""Makes the description of the API (OpenAPI 3.1) from the table of `operations` and the types that it names. Pure.

spectree can make one from Falcon resources, but it cannot describe their responses: several media types for one status,
response headers, and problem documents.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec

from common import VERSION
from facade.api import problem
from facade.api.openapi.operations import IN_PATHS, OPERATIONS, Named, Operation
from facade.api.schema import Problem
from facade.auth import access
from facade.status.metrics import MESSAGES

OF_EVERY_PATH = (403, 408, 421, 500)  # a page of another site, a slow request, an unknown host, a defect

_BEARER = "Needed only if `[security] tokens` is set"


def description() -> bytes:
    """The OpenAPI document as JSON."""
    schemas = _Schemas()
    paths = {
        path: {method: _operation(path, operation, schemas) for method, operation in operations.items()}
        for path, operations in OPERATIONS.items()
    }
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Threefold",
                "version": VERSION,
                "summary": "A replicated message log behind plain HTTP",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "paths": paths,
            "components": {
                "schemas": schemas.found,
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": _BEARER}},
            },
        }
    )


class _Schemas:
    """JSON schemas of types. A named type is collected once in `found`, and referred to from there."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def of(self, kind: Any) -> dict[str, Any]:
        """The schema of a type, or a reference to it."""
        (schema,), more = msgspec.json.schema_components((kind,), ref_template="#/components/schemas/{name}")
        self.found |= more
        return schema

    def content(self, kinds: Mapping[str, Any]) -> dict[str, Any]:
        """The content of a body, from its types by media type."""
        return {media_type: {"schema": self.of(kind)} for media_type, kind in kinds.items()}


def _operation(path: str, operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    in_path = {name: kind for name, kind in IN_PATHS.items() if f"{{{name}}}" in path}
    body = {"requestBody": {"required": True, "content": schemas.content(operation.body)}} if operation.body else {}
    return {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": ["messages" if path.startswith(MESSAGES) else "operation"],
        "parameters": [
            *_parameters("path", in_path, schemas),
            *_parameters("query", operation.query, schemas),
            *_parameters("header", operation.headers, schemas),
        ],
        **body,
        **({"security": [{}, {"token": []}]} if _is_guarded(path, operation) else {}),
        "responses": {**_successes(operation, schemas), **_failures(path, operation, schemas)},
    }


def _is_guarded(path: str, operation: Operation) -> bool:
    """True if the operation may need a token; an open path with parameters needs one when they are given."""
    return path not in access.OPEN or bool(operation.query)


def _parameters(place: str, named: Named, schemas: _Schemas) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": place, "required": place == "path", "description": text, "schema": schemas.of(kind)}
        for name, (kind, text) in named.items()
    ]


def _successes(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    headers = {
        name: {"description": text, "schema": schemas.of(kind)}
        for name, (kind, text) in operation.response_headers.items()
    }
    links = {target: {"operationId": target, "parameters": dict(needs)} for target, needs in operation.links.items()}
    return {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "headers": headers,
            "content": schemas.content(kinds),
            **({"links": links} if links and status == HTTPStatus.CREATED else {}),
        }
        for status, kinds in operation.answers.items()
    }


def _failures(path: str, operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    guarded = (401, 403, 429) if _is_guarded(path, operation) else ()
    return {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "content": schemas.content({problem.MEDIA_TYPE: Problem}),
        }
        for status in sorted({*operation.fails, *guarded, *OF_EVERY_PATH})
    }
