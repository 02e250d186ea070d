"""The aiohttp library, both of its halves.

Server. Hooked: ``RequestHandler._handle_request``, which runs in a task of its own for every request and in which all
happens: the application, the answer to an exception, the body, the access log; runners made before are covered.
By hand: ``init_app(app)``, or ``web.Application(middlewares=[middleware])``. Span: ``SERVER``, ``GET /users/{id}``,
tags by ``_http``; a WebSocket connection is one span.

Client. Hooked: ``ClientSession._request``: sessions made before are covered, a WebSocket's handshake too. By hand:
``ClientSession(trace_configs=[trace_config()])``; with both there still is one span. Span: ``CLIENT``, ``GET``, tags by
``_http``; redirects are followed within it. It is active until the headers are here and ends when the body is here, or
the response is released or closed, or dropped (with ``clew.unclosed``). A WebSocket's ends with the handshake.

Tested with aiohttp 3.14.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from clew._context import current
from clew._patch import patch, unpatch
from clew._propagation import HEADERS
from clew._span import Span, begins_request
from clew._tracer import outgoing_headers
from clew.integrations import _http
from clew.integrations._bodies import Bodies
from clew.integrations._http import SPAN, TRACE_HEADER, Carried

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import SimpleNamespace

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# Where a request carries its span: text as a key is warned of since aiohttp 3.14.
_KEY: Final[Any] = web.RequestKey(SPAN, Carried) if hasattr(web, "RequestKey") else SPAN

_bodies: Final = Bodies()


def install() -> None:
    """Trace every server and every client session of this process, also those that exist already."""
    _follow_request()
    _follow_response()
    patch(RequestHandler, "_handle_request", _around_handle_request)
    patch(aiohttp.ClientSession, "_request", _around_request)


def uninstall() -> None:
    """Undo ``install``. An application that is traced by hand takes what it needs again with its next request.

    What ends a call with its response stays, for calls that are under way and for sessions that are traced by hand.
    """
    unpatch(RequestHandler, "_handle_request")
    unpatch(aiohttp.ClientSession, "_request")
    unpatch(web.StreamResponse, "prepare")
    unpatch(RequestHandler, "log_access")
    unpatch(RequestHandler, "handle_error")


# Server.


def init_app(app: web.Application) -> None:
    """Trace one application, before it is started. Idempotent."""
    if middleware not in app.middlewares:
        app.middlewares.insert(0, middleware)
    _follow_request()


@web.middleware
@begins_request
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Trace an application by hand: ``web.Application(middlewares=[middleware])``, the first of them."""
    _follow_request()
    if _KEY in request:
        return await handler(request)
    span = _start_server(request)
    previous = span.previous
    status = 0
    error: BaseException | None = None
    try:
        response = await handler(request)
        status = response.status
        return response
    except web.HTTPException as answer:
        status = answer.status
        raise
    except BaseException as problem:
        error = problem
        raise
    finally:
        _finish_server(request, span, status, error)
        current.set(previous)


def _around_handle_request(original: Any) -> Any:
    @begins_request
    async def handle_request(self: Any, request: Any, start_time: Any, request_handler: Any) -> Any:
        if (
            request_handler is not self._request_handler
        ):  # what came was not HTTP; aiohttp answers by a handler of its own
            return await original(self, request, start_time, request_handler)
        span = _start_server(request)
        status = 0
        error: BaseException | None = None
        try:
            result = await original(self, request, start_time, request_handler)
            status = result[0].status
            return result
        except BaseException as problem:
            if "error" not in span.tags:  # else it is the consequence of what handle_error() has been told
                error = problem
            raise
        finally:
            _finish_server(request, span, status, error)

    return handle_request


def _start_server(request: web.BaseRequest) -> Span:
    headers = request.headers
    found = {name: ",".join(headers.getall(name)) for name in HEADERS if name in headers}
    span = _http.start_server(request.method, request.path, found, _http.is_websocket(headers.get("Upgrade")))
    request[_KEY] = Carried(span)
    return span


def _finish_server(request: web.BaseRequest, span: Span, status: int, error: BaseException | None) -> None:
    _http.set_route(span, _route(request))
    peer = request.transport.get_extra_info("peername") if request.transport else None
    if isinstance(peer, tuple):  # a Unix socket's is text
        span.set_remote(None, peer[0], peer[1])
    _http.finish_server(span, status or int(span.tags.get("http.status_code", 0)), error)


def _route(request: web.BaseRequest) -> str | None:
    match = request.match_info if isinstance(request, web.Request) else None
    resource = match.route.resource if match is not None else None
    return None if resource is None else resource.canonical


def _follow_request() -> None:
    """Put the trace id on responses, and the span on what aiohttp logs of a request outside of the application."""
    patch(web.StreamResponse, "prepare", _around_prepare)
    patch(RequestHandler, "log_access", _in_trace)
    patch(RequestHandler, "handle_error", _around_handle_error)


def _span_of(request: web.BaseRequest) -> Span | None:
    carried = request.get(_KEY)
    return carried.span if carried is not None and isinstance(carried.span, Span) else None


def _around_prepare(original: Any) -> Any:
    def prepare(self: web.StreamResponse, request: web.BaseRequest) -> Any:
        span = _span_of(request)
        if span is not None and not self.prepared:
            self.headers[TRACE_HEADER] = span.trace_id
            span.tags["http.status_code"] = str(self.status)  # what is sent stands, whatever fails afterwards
        return original(self, request)

    return prepare


def _in_trace(original: Any) -> Any:
    def call(self: Any, request: web.BaseRequest, *args: Any, **kwargs: Any) -> Any:
        previous = current.get()
        current.set(_span_of(request) or previous)
        try:
            return original(self, request, *args, **kwargs)
        finally:
            current.set(previous)

    return call


def _around_handle_error(original: Any) -> Any:
    def handle_error(self: Any, request: Any, status: int = 500, exc: Any = None, message: Any = None) -> Any:
        span = _span_of(request)
        if span is not None and exc is not None:
            span.set_error(exc)
        previous = current.get()
        current.set(span or previous)
        try:
            return original(self, request, status, exc, message)
        finally:
            current.set(previous)

    return handle_error


# Client.


def trace_config() -> aiohttp.TraceConfig:
    """Return what traces one session by hand: ``ClientSession(trace_configs=[trace_config()])``."""
    _follow_response()
    config = aiohttp.TraceConfig()
    config.on_request_start.append(_on_start)
    config.on_request_end.append(_on_end)
    config.on_request_exception.append(_on_exception)
    return config


async def _on_start(session: aiohttp.ClientSession, context: SimpleNamespace, params: Any) -> None:
    context.span = None
    if _has_headers_of(current.get(), params.headers):
        return  # traced by ClientSession._request already
    websocket = _http.is_websocket(params.headers.get("Upgrade"))
    span = _http.start_client(params.method, str(params.url), websocket)
    params.headers.update(_http.inject(span))
    current.set(span.previous)  # aiohttp calls us in the caller's own context, which goes on while the request is made
    context.span = span


async def _on_end(session: aiohttp.ClientSession, context: SimpleNamespace, params: Any) -> None:
    if context.span is not None:
        _end(context.span, params.response)


async def _on_exception(session: aiohttp.ClientSession, context: SimpleNamespace, params: Any) -> None:
    if context.span is not None:
        _fail(context.span, params.exception)


def _has_headers_of(node: object, headers: Any) -> bool:
    if not isinstance(node, Span) or node.kind != "CLIENT":
        return False
    return all(headers.get(name) == value for name, value in outgoing_headers(node).items())


def _around_request(original: Any) -> Any:
    async def request(self: aiohttp.ClientSession, method: str, str_or_url: Any, **kwargs: Any) -> Any:
        headers = self._prepare_headers(kwargs.get("headers"))
        websocket = _http.is_websocket(headers.get("Upgrade"))
        span = _http.start_client(method, _absolute(self, str_or_url), websocket)
        previous = span.previous
        try:
            headers.update(_http.inject(span))
            kwargs["headers"] = headers
            response = await original(self, method, str_or_url, **kwargs)
            _end(span, response)
        except BaseException as error:
            _fail(span, error)
            raise
        finally:
            current.set(previous)
        return response

    return request


def _fail(span: Span, error: BaseException) -> None:
    if isinstance(error, aiohttp.ClientResponseError):  # by raise_for_status=True
        _http.set_client_status(span, error.status)
    span.set_error(error)
    span.finish()


def _end(span: Span, response: aiohttp.ClientResponse) -> None:
    """End the span of a call, or have the body end it where that is still to come."""
    _http.set_client_status(span, response.status)
    if response.closed or response.status == 101:
        span.finish()
    else:
        _bodies.follow(response, span)


def _follow_response() -> None:
    """End spans with the bodies of their responses, by the three ways in which a response ends."""
    for name in ("_response_eof", "close", "release"):
        patch(aiohttp.ClientResponse, name, _around_end)


def _around_end(original: Any) -> Any:
    def end(self: aiohttp.ClientResponse) -> Any:
        if _bodies.is_open(self):
            _bodies.end(self, _broken_by(self.content))
        return original(self)

    return end


def _broken_by(content: Any) -> BaseException | None:
    """Return what ended a body too early: what the connection said, or what its reader is just being told.

    A total time-out, or the caller's own, interrupts the reading task and leaves no mark on the body.
    """
    if not content:
        return None
    if content.exception() is not None:
        return content.exception()  # type: ignore[no-any-return]
    if getattr(getattr(content, "_timer", None), "_cancelled", False):  # also where the caller has caught it
        return asyncio.TimeoutError()
    error = sys.exc_info()[1]
    traceback = None if error is None else error.__traceback__
    while traceback is not None and traceback.tb_frame.f_locals.get("self") is not content:
        traceback = traceback.tb_next
    return None if traceback is None else error  # one that was not raised in reading is the caller's own affair


def _absolute(session: aiohttp.ClientSession, url: Any) -> str:
    """Resolve against the session's base URL, as the session will; what is no URL is the session's to complain of."""
    try:
        return str(session._build_url(url))
    except Exception:  # noqa: BLE001 - the boundary to whatever the application passed; the request itself will say it
        return str(url)
