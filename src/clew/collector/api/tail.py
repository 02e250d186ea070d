"""The live tail, ``GET /api/v1/tail``: what was just stored, as server-sent events, until the client goes away.

``event: spans`` and ``event: logs`` carry a JSON array of spans or log records as they were received; ``event: lost``
carries ``{"payloads": n}`` when the client read too slowly. Parameter ``service`` keeps only that service's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import StreamingResponse
from starlette.routing import Route

from clew.collector.api.answers import json_error
from clew.collector.api.parameters import Parameters
from clew.collector.ingest.feed import TooManyFollowers
from clew.collector.trace.span import encode_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute
    from starlette.types import Receive, Scope, Send

    from clew.collector.ingest import Ingest
    from clew.collector.ingest.feed import Published, Subscription

HEARTBEAT_S = 15.0  # keeps proxies from closing a quiet stream, and shows us a client that is gone
_ONE_LINE = bytes.maketrans(
    b"\r\n", b"  "
)  # line ends stand only between JSON tokens; in an event they would end the data


def routes(ingest: Ingest) -> list[BaseRoute]:
    """Return the route of the tail."""

    async def tail(request: Request) -> Response:
        try:
            service = Parameters(request.scope["query_string"]).text("service").lower()
        except ValueError as invalid:
            return json_error(400, str(invalid))
        try:
            subscription = ingest.subscribe()
        except TooManyFollowers as refused:
            return json_error(503, str(refused))
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return _Stream(subscription, service, headers)

    return [Route("/api/v1/tail", tail, methods=["GET"])]


class _Stream(StreamingResponse):
    """The events; however the request ends, also before the first of them, the follower is gone then."""

    def __init__(self, subscription: Subscription, service: str, headers: dict[str, str]) -> None:
        super().__init__(_events(subscription, service), 200, headers, "text/event-stream")
        self._subscription = subscription

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._subscription:
            await super().__call__(scope, receive, send)


async def _events(subscription: Subscription, service: str) -> AsyncIterator[bytes]:
    yield b": following\n\n"
    while True:
        try:
            published = await asyncio.wait_for(subscription.__anext__(), HEARTBEAT_S)
        except asyncio.TimeoutError:
            yield b": still here\n\n"
            continue
        except StopAsyncIteration:
            return
        for event in _encode(published, service):
            yield event


def _encode(published: Published, service: str) -> list[bytes]:
    events = []
    if published.lost:
        events.append(b'event: lost\ndata: {"payloads":%d}\n\n' % published.lost)
    payload = _of_service(published, service) if service else published.payload
    if payload:
        events.append(b"event: %b\ndata: %b\n\n" % (published.kind.encode(), payload.translate(_ONE_LINE)))
    return events


def _of_service(published: Published, service: str) -> bytes:
    """Return only what is of the service, b'' if nothing is."""
    rows: list[dict[str, Any]] = msgspec.json.decode(published.payload)
    kept = [row for row in rows if _service(row).lower() == service]
    return encode_json(kept) if kept else b""


def _service(row: dict[str, Any]) -> str:
    """Return the service of a span or a log record."""
    endpoint = row.get("localEndpoint") or {}
    return str(row.get("service") or endpoint.get("serviceName") or "")
