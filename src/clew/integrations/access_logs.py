"""Trace ids on what servers themselves write about a request, outside of its context: log lines, the last 500.

A server writes its access log, and its report of an exception that no framework caught, after or beside the
application: gunicorn and hypercorn when the response is done, werkzeug's between two steps of the body, uvicorn in
whichever task sends. The request's span is found on the request itself (``scope``, ``environ``) and made active while
the line is written; the 500 that uvicorn or werkzeug answers itself, and its debugger's page, get their header here.
On the console the ids are shown in the server's own format (``logging.show_ids``), if the program chose none; access
logs in files keep theirs, for there are programs that read them. Installed by ``clew.instrument()`` and by every
middleware of this package; makes no span.

gunicorn's own ASGI worker (``-k asgi``) and granian with WSGI do not say for which request they write: it is the last
one of this task or thread, which ``servers`` notes. waitress logs no
requests; daphne, and gunicorn's worker of gevent's pywsgi, write them without Python's logging.

Tested with uvicorn 0.54 (h11, httptools), gunicorn 27.0 (sync, gthread, asgi), werkzeug 3.1, hypercorn 0.18, granian
2.8, Django 5.2's ``runserver``.
"""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from clew._context import current
from clew._patch import patch, unpatch
from clew.integrations import _imports
from clew.integrations._http import TRACE_HEADER, TRACE_HEADER_LOWER, add_trace_id, carried_by
from clew.logging import is_console, show_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from clew._context import Node


_UVICORN_FORMATS: Final = (
    "%(levelprefix)s %(message)s",
    '%(levelprefix)s %(client_addr)s - "%(request_line)s" %(status_code)s',
)
_GUNICORN_FORMAT: Final = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"  # of its errors; all of hypercorn's
_DAPHNE_FORMAT: Final = "%(asctime)-15s %(levelname)-8s %(message)s"  # of the root logger, by its command
_TRACE_HEADER_START: Final = f"{TRACE_HEADER_LOWER}:".encode()


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


def _show(*loggers: str, formats: Iterable[str]) -> None:
    for name in loggers:
        for handler in logging.getLogger(name).handlers:
            if is_console(handler):
                for fmt in formats:
                    show_ids(handler, fmt)


def _follow_uvicorn_config(module: Any) -> None:
    _follow(module.Config, "configure_logging", _uvicorn_configure_logging)
    _show_in_uvicorn()


def _uvicorn_configure_logging(original: Any) -> Any:
    def configure_logging(self: Any) -> None:
        original(self)
        _show_in_uvicorn()

    return configure_logging


def _show_in_uvicorn() -> None:
    _show("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", formats=_UVICORN_FORMATS)


def _follow_uvicorn(module: Any) -> None:
    _follow(module.RequestResponseCycle, "send", _uvicorn_send)
    _follow(module.RequestResponseCycle, "run_asgi", _uvicorn_run_asgi)


def _uvicorn_send(original: Any) -> Any:
    def send(self: Any, message: Any) -> Any:
        span = _span_of(self.scope)
        if span is None or message["type"] != "http.response.start":
            return original(self, message)
        message = {**message, "headers": add_trace_id(message.get("headers") or (), span)}
        return _call_in_trace(span, original, self, message)

    return send


async def _call_in_trace(span: Node, call: Any, *args: Any) -> None:
    previous = current.get()
    current.set(span)
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
                current.set(_span_of(scope) or current.get())
                raise

        await original(self, keep_trace)

    return run


def _follow_gunicorn(module: Any) -> None:
    _follow(module.Logger, "access", _gunicorn_access)
    _follow(module.Logger, "setup", _gunicorn_setup)
    _show("gunicorn.error", formats=[_GUNICORN_FORMAT])  # an application that is loaded by a worker comes too late


def _gunicorn_setup(original: Any) -> Any:
    def setup(self: Any, cfg: Any) -> None:
        original(self, cfg)
        _show("gunicorn.error", formats=[_GUNICORN_FORMAT])
        _show_in_gunicorn(self, cfg)  # uvicorn's worker writes by the same handlers, and never calls access()

    return setup


def _gunicorn_access(original: Any) -> Any:
    def access(self: Any, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        _show_in_gunicorn(self, self.cfg)
        previous = current.get()
        current.set(_span_of(environ) or _served_here() or previous)
        try:
            original(self, resp, req, environ, request_time)
        finally:
            current.set(previous)

    return access


def _show_in_gunicorn(logger: Any, cfg: Any) -> None:
    """Show ids on access lines, unless the program chose what is on them; handlers of a logging config are its own."""
    try:
        setting = cfg.settings["access_log_format"]
        if setting.get() == setting.default:
            for handler in logger.access_log.handlers:
                if getattr(handler, "_gunicorn", False) and is_console(handler):
                    show_ids(handler)
    except Exception:  # noqa: BLE001, S110 - a logger class of the application's own has what it likes
        pass


def _follow_werkzeug(module: Any) -> None:
    _follow(module.WSGIRequestHandler, "log", _werkzeug_log)
    _follow(module.WSGIRequestHandler, "end_headers", _werkzeug_end_headers)
    from werkzeug import _internal

    handler_type = getattr(_internal, "_ColorStreamHandler", None)
    if handler_type is not None:  # what werkzeug's logger gets where the program gives it none
        _follow(handler_type, "__init__", _werkzeug_handler)
        for handler in logging.getLogger("werkzeug").handlers:
            if type(handler) is handler_type:
                show_ids(handler)


def _werkzeug_handler(original: Any) -> Any:
    def __init__(self: Any) -> None:  # noqa: N807 - it stands in the place of one
        original(self)
        show_ids(self)

    return __init__


def _werkzeug_end_headers(original: Any) -> Any:
    """Put the trace id on answers that are not the application's: the server's own 500, the debugger's page."""

    def end_headers(self: Any) -> None:
        span = _span_of(getattr(self, "environ", None))
        if span is not None and not any(_is_trace_header(line) for line in getattr(self, "_headers_buffer", ())):
            self.send_header(TRACE_HEADER, span.trace_id)
        original(self)

    return end_headers


def _is_trace_header(line: bytes) -> bool:
    return line[: len(_TRACE_HEADER_START)].lower() == _TRACE_HEADER_START


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
    _follow(module.Logger, "__init__", _hypercorn_logger)


def _hypercorn_logger(original: Any) -> Any:
    def __init__(self: Any, config: Any) -> None:  # noqa: N807 - it stands in the place of one
        original(self, config)
        _show("hypercorn.error", formats=[_GUNICORN_FORMAT])
        if config.access_log_format == type(config).access_log_format:
            _show("hypercorn.access", formats=[_GUNICORN_FORMAT])

    return __init__


def _hypercorn_access(original: Any) -> Any:
    async def access(self: Any, request: Any, response: Any, request_time: float) -> None:
        span = _span_of(request)
        if span is None:
            await original(self, request, response, request_time)
        else:
            await _call_in_trace(span, original, self, request, response, request_time)

    return access


# Servers whose log line is not told its request, only written right after it, by the same task or thread.

_last: WeakKeyDictionary[Any, Node] = WeakKeyDictionary()


class Served:
    """An ASGI application whose task's last request is noted, for the line that follows it."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection, as ASGI 3 has it."""
        try:
            await self._app(scope, receive, send)
        finally:
            _note_served(scope)


def served_wsgi(app: Any) -> Any:
    """Return a WSGI application whose thread's last request is noted, for the line that follows it."""

    def serve(environ: Any, start_response: Any) -> Any:
        try:
            return app(environ, start_response)
        finally:
            _note_served(environ)

    return serve


def _note_served(request: Any) -> None:
    span = _span_of(request)
    if span is not None:
        _last[_here()] = span


def _served_here() -> Node | None:
    return _last.pop(_here(), None) if _last else None


def _here() -> Any:
    """Return the running task, else the thread."""
    asyncio = sys.modules.get("asyncio")
    try:
        task = asyncio.current_task() if asyncio else None
    except RuntimeError:  # no loop runs in this thread
        task = None
    return task or threading.current_thread()


def _follow_granian(module: Any) -> None:
    _follow(module, "_build_access_logger", _granian_access)
    _show("granian.access", formats=["%(message)s"])


def _follow_granian_log(module: Any) -> None:
    _follow(module, "configure_logging", _granian_configure_logging)


def _granian_configure_logging(original: Any) -> Any:
    def configure_logging(*args: Any, **kwargs: Any) -> None:
        original(*args, **kwargs)
        _show("_granian", formats=["[%(levelname)s] %(message)s"])
        _show("granian.access", formats=["%(message)s"])

    return configure_logging


def _granian_access(original: Any) -> Any:
    def build(fmt: Any) -> Any:
        write = original(fmt)

        def access_log(started: Any, ticks: Any, scope: Any, status: Any) -> None:
            previous = current.get()
            current.set(_span_of(scope) or _served_here() or previous)
            try:
                write(started, ticks, scope, status)
            finally:
                current.set(previous)

        return access_log

    return build


def _follow_daphne(module: Any) -> None:
    _follow(module.Server, "run", _daphne_run)


def _daphne_run(original: Any) -> Any:
    def run(self: Any) -> None:
        _show("", formats=[_DAPHNE_FORMAT])
        original(self)

    return run


def _follow_wsgiref(module: Any) -> None:
    _follow(module.ServerHandler, "close", _wsgiref_close)


def _wsgiref_close(original: Any) -> Any:
    """Let the access line, which is written when all is sent, find the span."""

    def close(self: Any) -> None:
        previous = current.get()
        current.set(_span_of(self.environ) or previous)
        try:
            original(self)
        finally:
            current.set(previous)

    return close


def _follow_django(module: Any) -> None:
    _follow(module, "configure_logging", _django_configure_logging)


def _django_configure_logging(original: Any) -> Any:
    def configure_logging(logging_config: Any, logging_settings: Any) -> None:
        original(logging_config, logging_settings)
        _show("django", formats=["%(message)s"])
        _show("django.server", formats=["[{server_time}] {message}", "%(message)s"])

    return configure_logging


def _span_of(request: Any) -> Node | None:
    carried = carried_by(request)
    return None if carried is None else carried.span


_SERVERS = {
    "uvicorn.config": _follow_uvicorn_config,
    "uvicorn.protocols.http.h11_impl": _follow_uvicorn,
    "uvicorn.protocols.http.httptools_impl": _follow_uvicorn,
    "gunicorn.glogging": _follow_gunicorn,
    "werkzeug.serving": _follow_werkzeug,
    "hypercorn.logging": _follow_hypercorn,
    "daphne.server": _follow_daphne,
    "granian.asgi": _follow_granian,
    "granian.wsgi": _follow_granian,
    "granian.log": _follow_granian_log,
    "wsgiref.simple_server": _follow_wsgiref,
    "django.utils.log": _follow_django,
}
