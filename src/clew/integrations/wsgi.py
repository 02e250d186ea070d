"""WSGI applications, of any framework, by hand: ``app = TraceMiddleware(app)``. Flask has an integration of its own.

Span: ``SERVER``, ``GET`` (WSGI knows no routes), tags by ``_http``. It lasts until the body has been given to the
server: for a list when the application returns, for anything else when it is exhausted or closed. While the body is
produced, and in ``close()``, the span is active; between the steps, in the server's own code, it is not.

A ``wsgi.file_wrapper`` is passed on as it is, so that servers can use sendfile.

Tested with gunicorn 27.0 (sync, gthread, gevent), werkzeug 3.1, wsgiref.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from clew._context import Node, current
from clew._propagation import HEADERS
from clew._span import Span, begins_request
from clew.integrations import _http, access_logs
from clew.integrations._bodies import UNCLOSED_TAG
from clew.integrations._http import SPAN, TRACE_HEADER, TRACE_HEADER_LOWER, Carried, carried_by

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
WSGIApp = Callable[[Environ, StartResponse], Iterable[bytes]]

_HEADERS: Final = tuple((f"HTTP_{name.upper().replace('-', '_')}", name) for name in sorted(HEADERS))


class TraceMiddleware:
    """Trace a WSGI application: ``app = TraceMiddleware(app)``. A request that is traced already is passed on."""

    def __init__(self, app: WSGIApp) -> None:
        self.app = app
        access_logs.install()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request, as PEP 3333 has it."""
        return trace(self.app, environ, start_response, Exchange)


@begins_request
def trace(
    app: WSGIApp, environ: Environ, start_response: StartResponse, exchange_type: type[Exchange]
) -> Iterable[bytes]:
    """Call a WSGI application inside a server span. ``exchange_type`` knows the framework."""
    if SPAN in environ:
        return _go_on(app, environ, start_response, exchange_type)
    method = environ.get("REQUEST_METHOD", "GET")
    path = _path(environ)
    bridged = _http.bridged(method, path)
    if bridged is not None:
        environ[SPAN] = bridged
        return _go_on(app, environ, start_response, exchange_type)
    websocket = "HTTP_UPGRADE" in environ and _http.is_websocket(environ["HTTP_UPGRADE"])
    span = _http.start_server(method, path, _trace_headers(environ), websocket)
    previous = span.previous
    environ[SPAN] = carried = Carried(span)
    exchange = exchange_type(environ, span, start_response)
    try:
        body = app(environ, exchange.start_response)
        if not (carried.complete or exchange_type.is_complete(body, environ)):
            return _Body(body, exchange)
        exchange.finish(None)
        return body if _needs_no_step(body, environ) else _CompleteBody(body, span)
    except BaseException as error:
        exchange.finish(error)
        raise
    finally:
        current.set(previous)


def _go_on(
    app: WSGIApp, environ: Environ, start_response: StartResponse, exchange_type: type[Exchange]
) -> Iterable[bytes]:
    """Call an application whose request has a span already, the server's say; the framework adds the route."""
    carried = carried_by(environ)
    if carried is None or not isinstance(carried.span, Span) or exchange_type is Exchange:
        return app(environ, start_response)
    span = carried.span

    def begin(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        exchange_type.note_route(span, environ)
        return start_response(status, headers, *exc_info)

    body = app(environ, begin)
    carried.complete = exchange_type.is_complete(body, environ)
    return body


class Exchange:
    """A request and its response: watches ``start_response``, ends the span."""

    __slots__ = ("_start_response", "_status", "environ", "span")

    def __init__(self, environ: Environ, span: Span, start_response: StartResponse) -> None:
        self.environ = environ
        self.span = span
        self._start_response = start_response
        self._status = 0

    @staticmethod
    def note_route(span: Span, environ: Environ) -> None:
        """Complete the span's name by the route; called when the response begins. WSGI itself knows none."""

    def start_response(self, status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        """Note the status, add the trace id, pass on. ``exc_info``: as PEP 3333 has it, the server may raise it."""
        self.note_route(self.span, self.environ)
        code = status[:3]
        self._status = int(code) if code.isdecimal() else 0
        headers = [pair for pair in headers if pair[0].lower() != TRACE_HEADER_LOWER]
        headers.append((TRACE_HEADER, self.span.trace.trace_id))
        if exc_info and exc_info[0] and exc_info[0][1] is not None:
            self.span.set_error(exc_info[0][1])
        return self._start_response(status, headers, *exc_info)

    @staticmethod
    def is_complete(body: Iterable[bytes], environ: Environ) -> bool:
        """Tell whether the body is there already, so that nothing of the application runs any more to produce it."""
        return _needs_no_step(body, environ)

    def finish(self, error: BaseException | None) -> None:
        """End the span, once."""
        span = self.span
        if span.duration_ns >= 0:
            return
        environ = self.environ
        port = environ.get("REMOTE_PORT", "")
        span.set_remote(None, environ.get("REMOTE_ADDR"), int(port) if str(port).isdecimal() else None)
        _http.finish_server(span, self._status, error)


class _CompleteBody:
    """A body that needs no more of the application, but perhaps its ``close()``, which runs in the trace."""

    __slots__ = ("_body", "_span")

    def __init__(self, body: Iterable[bytes], span: Span) -> None:
        self._body = body
        self._span = span

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        outside = current.get()
        current.set(self._span)
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            current.set(outside)


class _Body:
    """The application's body, whose steps run in the trace; what is active between them is the server's own affair."""

    __slots__ = ("_body", "_exchange", "_inside", "_next")

    def __init__(self, body: Iterable[bytes], exchange: Exchange) -> None:
        self._body = body
        self._next = iter(body).__next__
        self._exchange = exchange
        self._inside: Node | None = exchange.span

    def __iter__(self) -> Iterator[bytes]:
        return self

    @begins_request
    def __next__(self) -> bytes:
        outside = current.get()
        current.set(self._inside)
        try:
            chunk = self._next()
            self._inside = current.get()  # a generator may have opened a span that stays open over its next step
            return chunk
        except StopIteration:
            self._exchange.finish(None)
            raise
        except BaseException as error:
            span = self._exchange.span  # noqa: F841 - what begins_request() promises
            self._exchange.finish(error)
            raise
        finally:
            current.set(outside)

    def close(self) -> None:
        """Close the application's body, in the trace, and end the span: nothing more will be sent."""
        outside = current.get()
        current.set(self._inside)
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        except BaseException as error:
            self._exchange.finish(error)
            raise
        finally:
            self._exchange.finish(None)
            current.set(outside)

    def __del__(self) -> None:
        """Report a request whose server (a test client, say) never closed the body."""
        span = self._exchange.span
        if span.duration_ns < 0:
            span.tags[UNCLOSED_TAG] = "true"
            self._exchange.finish(None)


def _needs_no_step(body: object, environ: Environ) -> bool:
    """Tell a list, or a file that the server itself will send: servers look for both, so they stay as they are."""
    if isinstance(body, (list, tuple)):
        return True
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and isinstance(body, wrapper)


def _trace_headers(environ: Environ) -> dict[str, str]:
    """Pick the headers of a trace. Servers join repeated ones by commas."""
    return {name: environ[key] for key, name in _HEADERS if key in environ}


def _path(environ: Environ) -> str:
    """Return the path as text: PEP 3333 has its UTF-8 bytes each as one character."""
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return path if path.isascii() else path.encode("latin-1", "replace").decode("utf-8", "replace")
