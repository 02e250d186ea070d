"""ASGI applications: Starlette, FastAPI and whatever else speaks ASGI 3.

Hooked: ``Starlette.__call__``, which FastAPI's ends in; it is the outermost point, so the 500 handler, all middleware
and background tasks are inside, and apps made before are covered. By hand: ``TraceMiddleware(app)``, or
``app.add_middleware(TraceMiddleware)``; both together still make one span.

Span: ``SERVER``, ``GET /users/{id}``, tags by ``_http``. It ends with the last piece of the body; what the application
does afterwards (background tasks) keeps the trace id. A WebSocket connection is one span, ``WS /chat/{room}``, from
handshake to close, with the tag ``websocket.close_code`` where the application closed.

Tested with starlette 1.10, fastapi 0.165, on uvicorn 0.54 (h11, httptools).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from clew._context import current
from clew._patch import patch, unpatch
from clew._propagation import HEADERS
from clew.integrations import _http, access_logs
from clew.integrations._http import SPAN

if TYPE_CHECKING:
    from clew._span import Span

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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, as ASGI 3 has it."""
        await _trace(self.app, scope, receive, send)


def install() -> None:
    """Trace every Starlette and FastAPI application of this process."""
    from starlette.applications import Starlette

    patch(Starlette, "__call__", _around_call)


def uninstall() -> None:
    """Undo ``install``."""
    from starlette.applications import Starlette

    unpatch(Starlette, "__call__")


def _around_call(original: Any) -> Any:
    async def call(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
        await _trace(functools.partial(original, self), scope, receive, send)

    return call


async def _trace(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    kind = scope["type"]
    if SPAN in scope or (kind != "http" and kind != "websocket"):
        await app(scope, receive, send)
        return
    method = scope["method"] if kind == "http" else "GET"
    span = _http.start_server(method, scope["path"], _trace_headers(scope["headers"]))
    previous = span.previous
    scope[SPAN] = span
    exchange = _Response(scope, span, send) if kind == "http" else _Connection(scope, span, send)
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


class _Exchange:
    """A request and its response: watches what the application sends."""

    __slots__ = ("_scope", "_send", "_span", "_status")

    def __init__(self, scope: Scope, span: Span, send: Send) -> None:
        self._scope = scope
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
        if "route" in scope or "endpoint" in scope:
            _http.set_route(span, _route(scope))
        client = scope.get("client")
        if client:
            span.set_remote(None, *_address(client))
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

    def __init__(self, scope: Scope, span: Span, send: Send) -> None:
        super().__init__(scope, span, send)
        span.name = "WS"

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


def _route(scope: Scope) -> str | None:
    """Return the route's template as Starlette or FastAPI left it, with the prefixes of the mounts around it."""
    path = _included_path(scope) or getattr(scope.get("route"), "path", None)
    if not isinstance(path, str):
        path = _route_of_old_starlette(scope)
        if path is None:
            return None
    outer = scope.get("app_root_path")
    return path if outer is None else _mount_template(scope, outer) + path


def _included_path(scope: Scope) -> str | None:
    """Return the whole path of a route that FastAPI, since 0.16x, keeps apart from its included router's prefix."""
    context = scope.get("fastapi")
    effective = context.get("effective_route_context") if isinstance(context, dict) else None
    if effective is None or getattr(effective, "original_route", None) is not scope.get("route"):
        return None
    path = getattr(effective, "path", None)
    return path if isinstance(path, str) else None


def _mount_template(scope: Scope, outer: str) -> str:
    """Return the mounts' prefix, in which values of path parameters became their names again."""
    prefix: str = scope.get("root_path", "")[len(outer) :]
    names = {str(value): name for name, value in scope.get("path_params", {}).items()}
    if not names:
        return prefix
    return "/".join(f"{{{names[part]}}}" if part in names else part for part in prefix.split("/"))


def _route_of_old_starlette(scope: Scope) -> str | None:
    """Find the route by its endpoint: before 1.0 Starlette did not say which one it took."""
    endpoint, router = scope.get("endpoint"), scope.get("router")
    if endpoint is None or router is None:
        return None
    paths = [route.path for route in router.routes if getattr(route, "endpoint", None) is endpoint]
    return paths[0] if len(paths) == 1 else None


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
        current.set(request.scope.get(SPAN) or previous)
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
        current.set(request.scope.get(SPAN) or previous)
        try:
            return await handler(request, error)
        finally:
            current.set(previous)

    handle.__clew_original__ = handler  # type: ignore[attr-defined]
    return handle
