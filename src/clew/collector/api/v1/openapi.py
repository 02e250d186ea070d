"""``/api/v1/openapi.json``: what this API is, in OpenAPI 3.1, made of the operations themselves."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

import msgspec

from clew.collector.api.v1.operation import LIMIT, NDJSON, SCANNED, Operation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clew.collector.api.v1.operation import Parameter

_REFERENCES: Final = "#/components/schemas/{name}"
_ABOUT: Final = (
    "What clew's collector answers besides Zipkin's API. Times and lengths are in microseconds, times since 1970. "
    f"Every answer says in the header {SCANNED} how many rows were read for it, and in {LIMIT} how many seconds it "
    "might have taken; a streamed one in its last member, cost. A question ends when its asker goes away."
)


class Mistake(msgspec.Struct, omit_defaults=True):
    """What is wrong and what would do; of a search also where, in characters of its text, and what to write instead."""

    error: str
    begin: int | None = None
    end: int | None = None
    suggestion: str | None = None


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """Return the document for these operations."""
    bodies = [operation.body for operation in operations]
    (*schemas, mistake), components = msgspec.json.schema_components([*bodies, Mistake], ref_template=_REFERENCES)
    return {
        "openapi": "3.1.0",
        "info": {"title": "clew", "version": metadata.version("clew"), "description": _ABOUT},
        "paths": {
            operation.path: {"get": _operation(operation, schema, mistake)}
            for operation, schema in zip(operations, schemas, strict=True)
        },
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(operation: Operation, schema: dict[str, Any], mistake: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    if NDJSON in operation.summary:
        content[NDJSON] = {"schema": {"type": "string"}}
    wrong = {"description": "What is wrong, and what would do.", "content": {"application/json": {"schema": mistake}}}
    return {
        "operationId": operation.path.removeprefix("/api/v1/").replace("/{", "_by_").replace("}", "").replace("/", "_"),
        "summary": operation.summary.partition(". ")[0].partition(";")[0],
        "description": operation.summary,
        "parameters": list(map(_parameter, operation.parameters)),
        "responses": {"200": {"description": "The answer.", "content": content}, "default": wrong},
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": parameter.kind}
    if parameter.default is not None:
        schema["default"] = parameter.default
    if parameter.one_of:
        schema["enum"] = list(parameter.one_of)
    return {
        "name": parameter.name,
        "in": parameter.within,
        "required": parameter.required,
        "description": parameter.about,
        "schema": schema,
    }
