"""Who may ask: around the whole application, before anything else looks at a request.

Three doors, in this order. *Host*: the name by which the collector is asked (DNS rebinding). *Origin*: the web page
that asks, if one does. *Token*: what the asker may do. What has passed them is meant for this collector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.responses import PlainTextResponse, Response

from clew.collector.doors.hosts import Hosts
from clew.collector.doors.origins import Origins, is_preflight
from clew.collector.doors.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from clew.collector.settings import Settings

_READ: Final = frozenset(
    (b"host", b"origin", b"authorization", b"cookie", b"sec-fetch-site", b"sec-fetch-mode", b"x-forwarded-host")
)


class Doors:
    """ASGI middleware: three doors before ``app``.

    ``writes``: whether a method and path take data, and so want a token that may write. ``is_open``: whether a path
    holds no data, and so wants no token.
    """

    def __init__(
        self, app: ASGIApp, settings: Settings, writes: Callable[[str, str], bool], is_open: Callable[[str], bool]
    ) -> None:
        self._app = app
        self._hosts = Hosts(settings.allowed_hosts, loopback_only=settings.http.is_loopback)
        self._origins = Origins(settings.allowed_origins)
        self._tokens = Tokens(settings.tokens, writes, is_open)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what may not pass; mark for browsers, and pass on, what may."""
        if scope["type"] != "http":
            await _refuse_socket(scope, send)
            return
        headers = _headers(scope)
        answer = self._answer(scope, headers)
        if b"origin" in headers:
            send = self._origins.marking(send, headers)
        await (answer or self._app)(scope, receive, send)

    def _answer(self, scope: Scope, headers: dict[bytes, bytes]) -> Response | None:
        if refused := self._hosts.refuse(headers) or self._origins.refuse(headers):
            return PlainTextResponse(refused + "\n", 403, {"X-Content-Type-Options": "nosniff"})
        if is_preflight(scope):
            return self._origins.preflight()
        return self._tokens.answer(scope, headers, self._origins.is_own(headers)) if self._tokens else None


def _headers(scope: Scope) -> dict[bytes, bytes]:
    """Return the headers that the doors look at. One that comes twice is joined, so that it fits nothing."""
    found: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in _READ:
            found[name] = found[name] + b", " + value if name in found else value
    return found


async def _refuse_socket(scope: Scope, send: Send) -> None:
    """Close a WebSocket: there are none, and the doors look at requests only."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
