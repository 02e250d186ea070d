"""ASGI applications: Starlette, FastAPI and whatever else speaks ASGI 3.

Hooked: ``Starlette.__call__``, which FastAPI's ends in; it is the outermost point, so the 500 handler, all middleware
and background tasks are inside, and apps made before are covered. By hand: ``TraceMiddleware(app)``, or
``app.add_middleware(TraceMiddleware)``; both together still make one span. The route is what ``handle`` of a router's
``Route`` and ``Mount`` is called on, the one point where all versions agree on what was taken (``_routes``).

Span: ``SERVER``, ``GET /users/{id}``, tags by ``_http``. It ends with the last piece of the body; what the application
does afterwards (background tasks) keeps the trace id. A WebSocket connection is one span, ``WS /chat/{room}``, from
handshake to close, with the tag ``websocket.close_code`` where the application closed.

Tested with starlette 0.36 to 1.10, fastapi 0.110 to 0.165, on uvicorn 0.54 (h11, httptools).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from clew._context import current
from clew._patch import patch, unpatch
from clew._propagation import HEADERS
from clew._span import Span, begins_request
from clew.integrations import _http, _routes, access_logs
from clew.integrations._http import SPAN, Carried, carried_by

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_HEADERS: Final = {name.encode(): name for name in HEADERS}


class TraceMiddleware:
    """Trace an ASGI application: ``app = TraceMiddleware(app)`` or ``app.add_middleware(TraceMiddleware)``.

    Outermost is best: what other middleware does is then inside the span. A request that is traced already, lifespan
    and unknown kinds of connection are passed on untouched.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        access_logs.install()
        _routes.install()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, as ASGI 3 has it."""
        await trace(self.app, scope, receive, send)


def install() -> None:
    """Trace every Starlette and FastAPI application of this process."""
    from starlette.applications import Starlette

    patch(Starlette, "__call__", _around_call)
    _routes.install()


def uninstall() -> None:
    """Undo ``install``."""
    from starlette.applications import Starlette

    unpatch(Starlette, "__call__")
    _routes.uninstall()


def _around_call(original: Any) -> Any:
    async def call(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
        await trace(functools.partial(original, self), scope, receive, send)

    return call


@begins_request
async def trace(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Call an ASGI application inside a server span; where there is one already, as it is."""
    kind = scope["type"]
    if SPAN in scope or (kind != "http" and kind != "websocket"):
        await _call_inner(app, scope, receive, send)
        return
    if kind == "http":
        span = _http.start_server(scope["method"], scope["path"], _trace_headers(scope["headers"]))
    else:
        span = _http.start_server("GET", scope["path"], _trace_headers(scope["headers"]), websocket=True)
    previous = span.previous
    scope[SPAN] = carried = Carried(span)
    exchange = (_Response if kind == "http" else _Connection)(scope, carried, span, send)
    error = None
    try:
        await app(scope, receive, exchange.send)
    except BaseException as problem:
        error = problem
        _follow_error_handler(scope.get("app"))
        raise
    finally:
        exchange.finish(error)
        current.set(previous)


async def _call_inner(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Call an application beneath a traced one. What it raises may get lost above it: in older BaseHTTPMiddleware."""
    try:
        await app(scope, receive, send)
    except Exception as problem:
        carried = carried_by(scope)
        if carried is not None:
            carried.failure = problem
        raise


class _Exchange:
    """A request and its response: watches what the application sends."""

    __slots__ = ("_carried", "_scope", "_send", "_span", "_status")

    def __init__(self, scope: Scope, carried: Carried, span: Span, send: Send) -> None:
        self._scope = scope
        self._carried = carried
        self._span = span
        self._send = send
        self._status = 0

    def finish(self, error: BaseException | None) -> None:
        """End the span, once, and leave what is active as it is: the application may go on after its response."""
        span = self._span
        if span.duration_ns >= 0:
            return
        active = current.get()
        scope = self._scope
        carried = self._carried
        route = carried.route
        if route is None and "route" in scope:
            route = _routes.route_of(scope)
        _http.set_route(span, route)
        client = scope.get("client")
        if client:
            span.set_remote(None, *_address(client))
        if carried.error is not None:
            error = error or carried.error
            carried.error = None  # its traceback leads back to here
        if carried.failure is not None:
            error = error or (carried.failure if self._status >= 500 else None)
            carried.failure = None
        _http.finish_server(span, self._status, error)
        current.set(active)


class _Response(_Exchange):
    """Of an HTTP request: the span ends when the body has been sent.

    After a failure it ends with the application: Starlette answers an uncaught exception first and raises it then.
    """

    __slots__ = ()

    def send(self, message: Message) -> Awaitable[None]:
        """Send on, by a coroutine of our own only where something follows: each costs as much as the work in it."""
        kind = message["type"]
        if kind == "http.response.start":
            self._status = message["status"]
            return self._send(_with_trace_id(message, self._span))
        if kind == "http.response.body" and not message.get("more_body") and self._status < 500:
            return self._send_last(message)
        return self._send(message)

    async def _send_last(self, message: Message) -> None:
        await self._send(message)
        self.finish(None)


class _Connection(_Exchange):
    """Of a WebSocket: the span ends when the application does."""

    __slots__ = ()

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.accept":
            self._status = 101
            message = _with_trace_id(message, self._span)
        elif kind == "websocket.close":
            self._status = self._status or 403  # closing before accepting is refusing: ASGI, "Close - send event"
            self._span.tag("websocket.close_code", message.get("code", 1000))
        elif kind == "websocket.http.response.start":
            self._status = message["status"]
            message = _with_trace_id(message, self._span)
        await self._send(message)


def _trace_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Pick the headers of a trace, with repeated ones joined by commas."""
    found: dict[str, str] = {}
    for raw, value in headers:
        name = _HEADERS.get(raw)
        if name is not None:
            text = value.decode("latin-1")
            found[name] = f"{found[name]},{text}" if name in found else text
    return found


def _with_trace_id(message: Message, span: Span) -> Message:
    return {**message, "headers": _http.add_trace_id(message.get("headers") or (), span)}


def _address(client: Any) -> tuple[str | None, int | None]:
    """Return what of a peer's ``(host, port)`` is fit to be sent: a test client's host is any word."""
    host, port = client[0], client[1]
    return (host if host and (host[0].isdigit() or ":" in host) else None), port


def _follow_error_handler(app: Any) -> None:
    """Have Starlette's handler of uncaught exceptions run in the trace: it is outside of all added middleware."""
    stack = getattr(app, "middleware_stack", None)
    handler = getattr(stack, "handler", None)
    if handler is None or hasattr(handler, "__clew_original__"):
        return
    wrap = _in_trace_async if inspect.iscoroutinefunction(handler) else _in_trace
    setattr(stack, "handler", wrap(handler))  # noqa: B010 - of a type that is not known here


def _in_trace(handler: Any) -> Any:
    @functools.wraps(handler)
    def handle(request: Any, error: Exception) -> Any:
        previous = current.get()
        carried = carried_by(request.scope)
        current.set(carried.span if carried else previous)
        try:
            return handler(request, error)
        finally:
            current.set(previous)

    handle.__clew_original__ = handler  # type: ignore[attr-defined]
    return handle


def _in_trace_async(handler: Any) -> Any:
    @functools.wraps(handler)
    async def handle(request: Any, error: Exception) -> Any:
        previous = current.get()
        carried = carried_by(request.scope)
        current.set(carried.span if carried else previous)
        try:
            return await handler(request, error)
        finally:
            current.set(previous)

    handle.__clew_original__ = handler  # type: ignore[attr-defined]
    return handle
