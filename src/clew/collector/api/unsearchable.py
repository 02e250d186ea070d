"""``--search false``: traces are found by their id only. Before the routes that search, and in their place.

As Zipkin's server with ``SEARCH_ENABLED=false``: lists are empty, its page shows no search, a trace by its id and the
dependencies are as ever. clew's own API says so instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from starlette.routing import BaseRoute, Match, Route

from clew.collector.api.answers import json_answer, json_error
from clew.collector.api.zipkin import UI_CONFIG

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

_SEARCHES = ("/services", "/spans", "/remoteServices", "/traces", "/autocompleteKeys", "/autocompleteValues")
_BY_ID = ("/api/v1/traces/", "/api/v1/tail")
_REFUSED = "Search is turned off here (--search false). A trace is there by its id: /api/v1/traces/{id}"


def routes() -> list[BaseRoute]:
    """Return the routes; put them before all that search."""
    return [
        *(
            Route(prefix + path, _nothing, methods=["GET"])
            for prefix in ("/api/v2", "/zipkin/api/v2")
            for path in _SEARCHES
        ),
        *(Route(path, _ui_config, methods=["GET"]) for path in ("/config.json", "/zipkin/config.json")),
        SearchRefused(),
    ]


class SearchRefused(BaseRoute):
    """Answers whatever searches in clew's own API with 403."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See starlette's BaseRoute."""
        searches = scope["type"] == "http" and scope["path"].startswith("/api/v1/") and not _is_by_id(scope)
        return (Match.FULL if searches else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See starlette's BaseRoute."""
        await json_error(403, _REFUSED)(scope, receive, send)


def _is_by_id(scope: Scope) -> bool:
    if scope["path"] == "/api/v1/logs":
        return bool(parse_qs(scope["query_string"].decode("latin-1")).get("trace_id"))
    return str(scope["path"]).startswith(_BY_ID)


async def _nothing(_: Request) -> Response:
    return json_answer([])


async def _ui_config(_: Request) -> Response:
    return json_answer({**UI_CONFIG, "searchEnabled": False})
