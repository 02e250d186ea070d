"""Trace ids on what servers themselves write about a request, outside of its context: log lines, the last 500.

A server writes its access log, and its report of an exception that no framework caught, after or beside the
application: gunicorn and hypercorn when the response is done, werkzeug's between two steps of the body, uvicorn in
whichever task sends. The request's span is found on the request itself (``scope``, ``environ``) and made active while
the line is written; the 500 that uvicorn answers itself gets its header here. Installed by ``clew.instrument()`` and by
every middleware of this package; makes no span.

gunicorn's own ASGI worker (``-k asgi``) does not say for which request it writes: its access lines carry no id.

Tested with uvicorn 0.54 (h11, httptools), gunicorn 27.0 (sync, gthread), werkzeug 3.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clew._context import current
from clew._patch import patch, unpatch
from clew.integrations import _imports
from clew.integrations._http import SPAN, add_trace_id

if TYPE_CHECKING:
    from collections.abc import Callable


def install() -> None:
    """Hook the servers that are or will be imported. Idempotent."""
    for module, follow in _SERVERS.items():
        _imports.when_imported(module, follow)


def uninstall() -> None:
    """Unhook them."""
    for module in _SERVERS:
        _imports.forget(module, _SERVERS[module])
    for owner, name in _patched:
        unpatch(owner, name)
    _patched.clear()


_patched: list[tuple[Any, str]] = []


def _follow(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    patch(owner, name, make)
    _patched.append((owner, name))


def _follow_uvicorn(module: Any) -> None:
    _follow(module.RequestResponseCycle, "send", _uvicorn_send)
    _follow(module.RequestResponseCycle, "run_asgi", _uvicorn_run_asgi)


def _uvicorn_send(original: Any) -> Any:
    def send(self: Any, message: Any) -> Any:
        span = self.scope.get(SPAN)
        if span is None or message["type"] != "http.response.start":
            return original(self, message)
        message = {**message, "headers": add_trace_id(message.get("headers") or (), span)}
        return _call_in_trace(self.scope, original, self, message)

    return send


async def _call_in_trace(scope: Any, call: Any, *args: Any) -> None:
    previous = current.get()
    current.set(scope[SPAN])
    try:
        await call(*args)
    finally:
        current.set(previous)


def _uvicorn_run_asgi(original: Any) -> Any:
    """Let the log line of an exception, which follows the application's end, find the span. The task ends with it."""

    async def run(self: Any, app: Any) -> None:
        async def keep_trace(scope: Any, receive: Any, send: Any) -> Any:
            try:
                return await app(scope, receive, send)
            except BaseException:
                if scope.get(SPAN) is not None:
                    current.set(scope[SPAN])
                raise

        await original(self, keep_trace)

    return run


def _follow_gunicorn(module: Any) -> None:
    _follow(module.Logger, "access", _access_of_environ)


def _access_of_environ(original: Any) -> Any:
    def access(self: Any, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        previous = current.get()
        current.set(_span_of(environ) or previous)
        try:
            original(self, resp, req, environ, request_time)
        finally:
            current.set(previous)

    return access


def _follow_werkzeug(module: Any) -> None:
    _follow(module.WSGIRequestHandler, "log", _werkzeug_log)


def _werkzeug_log(original: Any) -> Any:
    def log(self: Any, type: str, message: str, *args: Any) -> None:
        previous = current.get()
        current.set(_span_of(getattr(self, "environ", None)) or previous)
        try:
            original(self, type, message, *args)
        finally:
            current.set(previous)

    return log


def _follow_hypercorn(module: Any) -> None:
    _follow(module.Logger, "access", _hypercorn_access)


def _hypercorn_access(original: Any) -> Any:
    async def access(self: Any, request: Any, response: Any, request_time: float) -> None:
        if _span_of(request) is None:
            await original(self, request, response, request_time)
        else:
            await _call_in_trace(request, original, self, request, response, request_time)

    return access


def _span_of(request: Any) -> Any:
    return request.get(SPAN) if isinstance(request, dict) else None


_SERVERS = {
    "uvicorn.protocols.http.h11_impl": _follow_uvicorn,
    "uvicorn.protocols.http.httptools_impl": _follow_uvicorn,
    "gunicorn.glogging": _follow_gunicorn,
    "werkzeug.serving": _follow_werkzeug,
    "hypercorn.logging": _follow_hypercorn,
}
