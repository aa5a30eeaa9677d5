"""The description of the API (OpenAPI 3.1), made of `facade.documents.operations` and the types that are in it. Pure.

spectree makes such a document of Falcon's resources, too, but it cannot say what these answer: several media types for
one status, headers, problems (docs/design.md).
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

_BEARER = "where `[security] tokens` is set; without it there is no need of one"


def description() -> bytes:
    """The whole, as JSON."""
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
    """The JSON schemas of types; those that have a name stand once, in `found`."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def of(self, kind: Any) -> dict[str, Any]:
        (schema,), more = msgspec.json.schema_components((kind,), ref_template="#/components/schemas/{name}")
        self.found |= more
        return schema

    def content(self, kinds: Mapping[str, Any]) -> dict[str, Any]:
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
    """Whether it may need a token; of an open path that takes a parameter, with it."""
    return path not in access.OPEN or bool(operation.query)


def _parameters(place: str, named: Named, schemas: _Schemas) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": place, "required": place == "path", "description": text, "schema": schemas.of(kind)}
        for name, (kind, text) in named.items()
    ]


def _successes(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    headers = {name: {"description": text, "schema": schemas.of(kind)} for name, (kind, text) in operation.says.items()}
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
        for status in (*operation.fails, *guarded, 500)
    }
