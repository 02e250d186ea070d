"""clew's own read API under ``/api/v1``: what Zipkin's lacks. JSON in UTF-8; times in microseconds since the epoch.

One module a topic, each with its ``OPERATIONS``: path, parameters, the type of the answer, the function that answers.
``docs/api.md`` tells about them, ``/api/v1/openapi.json`` has them for programs. Errors are ``{"error": "..."}`` and
say what would do; those of a search also ``begin``, ``end`` (characters of its text) and ``suggestion``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.responses import Response
from starlette.routing import Route

from clew.collector.api.v1 import (
    comparison,
    completion,
    fleet,
    logs,
    numbers,
    operation_anatomy,
    trace,
    traces,
    troubles,
)
from clew.collector.api.v1.openapi import document
from clew.collector.trace.span import encode_json

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from clew.collector.api.desk import Desk
    from clew.collector.metrics import Metrics
    from clew.collector.settings import Settings

OPERATIONS: Final = (
    *traces.OPERATIONS,
    *trace.OPERATIONS,
    *logs.OPERATIONS,
    *numbers.OPERATIONS,
    *fleet.OPERATIONS,
    *operation_anatomy.OPERATIONS,
    *troubles.OPERATIONS,
    *comparison.OPERATIONS,
    *completion.OPERATIONS,
)


def routes(desk: Desk, settings: Settings, metrics: Metrics) -> list[BaseRoute]:
    """Return the routes of this API but for the live tail."""
    return [operation.route(desk, settings.retain * 1_000_000, metrics) for operation in OPERATIONS]


def about() -> list[BaseRoute]:
    """Return the route of the document, which needs no store."""
    body = encode_json(document(OPERATIONS))

    async def openapi(request: Request) -> Response:
        return Response(body, media_type="application/json")

    return [Route("/api/v1/openapi.json", openapi, methods=["GET"])]
