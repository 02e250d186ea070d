"""Flask applications: their routes, errors and streams.

Hooked: ``Flask.__call__``, outside of all that wraps ``app.wsgi_app`` (``ProxyFix``), so apps made before are covered.
By hand: ``init_app(app)``. Route, and the exception behind a 500 that Flask answers itself, come by its signals
``request_started`` and ``got_request_exception``: what is left of the request when it answers depends on debug mode
and on ``copy_current_request_context``.

Span: ``SERVER``, ``GET /users/<int:id>``, tags by ``_http``. It ends when the view's response is ready, or, of a
streamed response, with the end of the body.

Tested with flask 3.1 on werkzeug 3.1 and gunicorn 27.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import flask
from flask.logging import default_handler
from flask.signals import got_request_exception, request_finished, request_started

from clew._patch import patch, unpatch
from clew._span import Span
from clew.integrations import access_logs
from clew.integrations._http import carried_by, set_route
from clew.integrations.wsgi import Environ, Exchange, StartResponse, trace
from clew.logging import show_ids

if TYPE_CHECKING:
    from collections.abc import Iterable

_STREAMED: Final = "clew.streamed"


def init_app(app: flask.Flask) -> None:
    """Trace one application: ``init_app(app)``, before or after its routes are registered. Idempotent."""
    wsgi_app = app.wsgi_app
    if isinstance(wsgi_app, _TracedWsgiApp):
        return
    app.wsgi_app = _TracedWsgiApp(wsgi_app)  # type: ignore[method-assign]
    _connect()


def install() -> None:
    """Trace every Flask application of this process."""
    patch(flask.Flask, "__call__", _around_call)
    _connect()


def uninstall() -> None:
    """Undo ``install``. Applications given to ``init_app`` stay traced."""
    unpatch(flask.Flask, "__call__")


class _TracedWsgiApp:
    def __init__(self, wsgi_app: Any) -> None:
        self.wsgi_app = wsgi_app

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        return trace(self.wsgi_app, environ, start_response, _FlaskExchange)


def _around_call(original: Any) -> Any:
    def call(self: flask.Flask, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        return trace(original.__get__(self), environ, start_response, _FlaskExchange)

    return call


class _FlaskExchange(Exchange):
    __slots__ = ()

    def is_complete(self, body: Iterable[bytes]) -> bool:
        """Test clients may never read or close a body, so what needs no reading must not wait for it."""
        return _STREAMED not in self.environ or super().is_complete(body)


def _connect() -> None:
    access_logs.install()
    show_ids(
        default_handler, "[%(asctime)s] %(levelname)s in %(module)s: %(message)s"
    )  # of app.logger, if nobody has any
    request_started.connect(_note_route)
    got_request_exception.connect(_note_error)
    request_finished.connect(_note_stream)


def _note_route(sender: flask.Flask, **_: Any) -> None:
    rule = flask.request.url_rule
    span = _span()
    if rule is not None and span is not None:
        set_route(span, f"{flask.request.environ.get('SCRIPT_NAME', '')}{rule.rule}")


def _note_error(sender: flask.Flask, exception: BaseException, **_: Any) -> None:
    span = _span()
    if span is not None:
        span.set_error(exception)


def _span() -> Span | None:
    carried = carried_by(flask.request.environ)
    return carried.span if carried is not None and isinstance(carried.span, Span) else None


def _note_stream(sender: flask.Flask, response: flask.Response, **_: Any) -> None:
    if response.is_streamed:
        flask.request.environ[_STREAMED] = True
