"""WSGI and ASGI servers, for applications of any framework or of none: the request's span begins in the server.

Hooked, on their classes, where each server is about to call the application: uvicorn (also as gunicorn's worker),
gunicorn (sync, gthread, gevent, eventlet, its own ASGI worker), gevent's pywsgi, hypercorn, daphne, granian, waitress,
werkzeug, wsgiref. So it does not matter whether the application turns clew on when the server runs already. A framework
that is hooked as well finds the span and adds its route: there is one span a request, also where an ASGI server serves
WSGI. uWSGI calls applications from C, so under it frameworks are traced and a plain application is not.

Span: ``SERVER``, ``GET`` (the route is the framework's), ``WS`` of a WebSocket; tags by ``_http``. It lasts until the
framework has made the response, without one until the server has the whole body.

Tested with uvicorn 0.54, gunicorn 27.0, hypercorn 0.18, daphne 4.2, granian 2.8, waitress 3.0, werkzeug 3.1.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from clew.integrations import access_logs, asgi, wsgi
from clew.integrations._hooks import Hooks
from clew.integrations._http import SPAN

if TYPE_CHECKING:
    from collections.abc import Awaitable


def install() -> None:
    """Trace what the servers of this process serve."""
    access_logs.install()
    for hooks in _hooks:
        hooks.install()


def uninstall() -> None:
    """Undo ``install``. An application that is being served by a WSGI server stays traced."""
    for hooks in _hooks:
        hooks.uninstall()


def _wsgi(app: Any) -> Any:
    return app if isinstance(app, wsgi.TraceMiddleware) else wsgi.TraceMiddleware(app)


def _asgi(app: Any) -> Any:
    return app if isinstance(app, asgi.TraceMiddleware) else asgi.TraceMiddleware(app)


# Servers that keep the application in an attribute, which is looked at before each request or connection.


def _around_gunicorn_request(original: Any) -> Any:
    def handle(self: Any, *args: Any) -> Any:
        self.wsgi = _wsgi(self.wsgi)
        return original(self, *args)

    return handle


def _around_pywsgi(original: Any) -> Any:
    def run_application(self: Any) -> None:
        self.application = _wsgi(self.application)
        original(self)

    return run_application


def _around_waitress(original: Any) -> Any:
    def execute(self: Any) -> None:
        server = self.channel.server
        server.application = _wsgi(server.application)
        original(self)

    return execute


def _around_werkzeug(original: Any) -> Any:
    def run_wsgi(self: Any) -> None:
        self.server.app = _wsgi(self.server.app)
        original(self)

    return run_wsgi


def _around_protocol(original: Any) -> Any:
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it stands in the place of one
        original(self, *args, **kwargs)
        self.app = _asgi(self.app)

    return __init__


def _around_gunicorn_protocol(original: Any) -> Any:
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it stands in the place of one
        original(self, *args, **kwargs)
        self.app = access_logs.Served(_asgi(self.app))

    return __init__


def _around_daphne(original: Any) -> Any:
    def create_application(self: Any, protocol: Any, scope: Any) -> Any:
        self.application = _asgi(self.application)
        return original(self, protocol, scope)

    return create_application


# Servers that hand the application on.


def _around_wsgiref(original: Any) -> Any:
    def run(self: Any, application: Any) -> None:
        original(self, _wsgi(application))

    return run


def _around_hypercorn(original: Any) -> Any:
    async def call(self: Any, scope: Any, receive: Any, send: Any, *spawners: Any) -> None:
        def app(scope: Any, receive: Any, send: Any) -> Awaitable[None]:
            return original(self, scope, receive, send, *spawners)  # type: ignore[no-any-return]

        await asgi.trace(app, scope, receive, send)

    return call


def _around_build_environ(original: Any) -> Any:
    """Hand the span on to the WSGI application that an ASGI server runs in a thread, without a context."""

    def build_environ(scope: Any, *body: Any) -> Any:
        environ = original(scope, *body)
        if SPAN in scope:
            environ[SPAN] = scope[SPAN]
        return environ

    return build_environ


def _around_granian_asgi(original: Any) -> Any:
    def wrap(callback: Any, *options: Any) -> Any:
        return original(partial(asgi.trace, callback), *options)

    return wrap


def _around_granian_wsgi(original: Any) -> Any:
    def wrap(callback: Any, *options: Any) -> Any:
        return original(access_logs.served_wsgi(_wsgi(callback)), *options)

    return wrap


_PROTOCOLS: Final = (
    *(("http.h11_impl", "H11Protocol"), ("http.httptools_impl", "HttpToolsProtocol")),
    *(("http.zttp_impl", "ZttpProtocol"), ("http.zttp_h2_impl", "ZttpH2Protocol")),
    ("websockets.websockets_impl", "WebSocketProtocol"),
    *(("websockets.websockets_sansio_impl", "WebSocketsSansIOProtocol"), ("websockets.wsproto_impl", "WSProtocol")),
)
_GRANIAN: Final = ("granian.server.mp", "granian.server.mt", "granian.server.embed")  # the last knows no WSGI
_hooks: Final = (
    Hooks({f"uvicorn.protocols.{module}": (name, {"__init__": _around_protocol}) for module, name in _PROTOCOLS}),
    Hooks(
        {
            "gunicorn.workers.sync": ("SyncWorker", {"handle_request": _around_gunicorn_request}),
            "gunicorn.workers.gthread": ("ThreadWorker", {"handle_request": _around_gunicorn_request}),
            "gunicorn.workers.base_async": ("AsyncWorker", {"handle_request": _around_gunicorn_request}),
            "gunicorn.asgi.protocol": ("ASGIProtocol", {"__init__": _around_gunicorn_protocol}),
            "gevent.pywsgi": ("WSGIHandler", {"run_application": _around_pywsgi}),
            "waitress.task": ("WSGITask", {"execute": _around_waitress}),
            "werkzeug.serving": ("WSGIRequestHandler", {"run_wsgi": _around_werkzeug}),
            "wsgiref.handlers": ("BaseHandler", {"run": _around_wsgiref}),
            "daphne.server": ("Server", {"create_application": _around_daphne}),
            "hypercorn.app_wrappers": ("ASGIWrapper", {"__call__": _around_hypercorn}),
            "uvicorn.middleware.wsgi": ("", {"build_environ": _around_build_environ}),
        }
    ),
    Hooks({"hypercorn.app_wrappers": ("WSGIWrapper", {"__call__": _around_hypercorn})}),
    Hooks({"hypercorn.app_wrappers": ("", {"_build_environ": _around_build_environ})}),
    Hooks({module: ("", {"_asgi_call_wrap": _around_granian_asgi}) for module in _GRANIAN}),
    Hooks({module: ("", {"_wsgi_call_wrap": _around_granian_wsgi}) for module in _GRANIAN[:2]}),
)
