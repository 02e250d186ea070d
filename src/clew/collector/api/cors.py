"""Which web pages elsewhere may use the API (CORS): around the whole application, before anything else.

As Zipkin's server: with ``*`` any page, else those listed; a page that is not gets 403 whatever it asks. Requests
without an ``Origin``, and those of our own page, are not concerned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET,POST",
    "Access-Control-Allow-Headers": "authorization,content-encoding,content-type",
    "Access-Control-Max-Age": "600",
}


class Cors:
    """ASGI middleware; ``origins`` as in the setting ``allowed_origins``: ``*``, or origins such as ``https://host``."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app = app
        self._any = "*" in origins
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer preflights and foreign pages that are not allowed; pass on and mark everything else."""
        origin = _origin(scope) if scope["type"] == "http" else None
        if origin is None:
            await self._app(scope, receive, send)
        elif not self._any and origin.lower() not in self._origins:
            await PlainTextResponse("This origin is not allowed", 403, {"Vary": "origin"})(scope, receive, send)
        elif _is_preflight(scope):
            await Response(headers={**self._allow(origin), **_PREFLIGHT})(scope, receive, send)
        else:
            await self._app(scope, receive, self._marking(send, origin))

    def _allow(self, origin: str) -> dict[str, str]:
        if self._any:
            return {"Access-Control-Allow-Origin": "*"}
        return {"Access-Control-Allow-Origin": origin, "Vary": "origin"}

    def _marking(self, send: Send, origin: str) -> Send:
        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Access-Control-Allow-Origin"] = self._allow(origin)["Access-Control-Allow-Origin"]
                if not self._any:
                    headers.add_vary_header("origin")
            await send(message)

        return marked


def _origin(scope: Scope) -> str | None:
    """Return the page that asks, None when it is ours or nobody tells."""
    for name, _ in scope["headers"]:
        if name == b"origin":
            break
    else:
        return None
    headers = Headers(scope=scope)
    origin = headers["origin"]
    return None if origin.partition("://")[2] == headers.get("host", "") else origin


def _is_preflight(scope: Scope) -> bool:
    return scope["method"] == "OPTIONS" and "access-control-request-method" in Headers(scope=scope)
