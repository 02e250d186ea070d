"""Flask applications: their routes, errors and streams.

Hooked: ``Flask.__call__``, outside of all that wraps ``app.wsgi_app`` (``ProxyFix``), so apps made before are covered.
By hand: ``init_app(app)``. The exception behind a 500, which Flask answers itself, comes by its signal
``got_request_exception``; the route from the request that werkzeug leaves in the environ.

Span: ``SERVER``, ``GET /users/<int:id>``, tags by ``_http``. It ends when the view's response is ready, or, of a
streamed response, with the end of the body.

Tested with flask 3.1 on werkzeug 3.1 and gunicorn 27.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import flask
from flask.logging import default_handler
from flask.signals import got_request_exception, request_finished

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

    @staticmethod
    def note_route(span: Span, environ: Environ) -> None:
        """Look for the route now: when the application has returned, Flask has taken its request away."""
        _note_route(span, environ)

    @staticmethod
    def is_complete(body: Iterable[bytes], environ: Environ) -> bool:
        """Test clients may never read or close a body, so what needs no reading must not wait for it."""
        return _STREAMED not in environ or Exchange.is_complete(body, environ)


def _connect() -> None:
    access_logs.install()
    show_ids(
        default_handler, "[%(asctime)s] %(levelname)s in %(module)s: %(message)s"
    )  # of app.logger, if nobody has any
    got_request_exception.connect(_note_error)
    request_finished.connect(_note_stream)


def _note_error(sender: flask.Flask, exception: BaseException, **_: Any) -> None:
    environ = flask.request.environ
    carried = carried_by(environ)
    if carried is not None and isinstance(carried.span, Span):
        _note_route(carried.span, environ)  # in debug mode Flask will not answer
        carried.span.set_error(exception)


def _note_route(span: Span, environ: Environ) -> None:
    """Complete the span's name by the rule that was taken.

    The request is in the environ until its context ends. A copied context (``copy_current_request_context``) ends
    earlier and takes it away; then it still is Flask's current request.
    """
    request = environ.get("werkzeug.request")
    if request is None and flask.has_request_context() and flask.request.environ is environ:
        request = flask.request
    rule = getattr(request, "url_rule", None)
    if rule is not None:
        set_route(span, f"{environ.get('SCRIPT_NAME', '')}{rule.rule}")


def _note_stream(sender: flask.Flask, response: flask.Response, **_: Any) -> None:
    error_page = (
        response.status_code >= 400 and response.content_length is not None
    )  # werkzeug's come as iterators, too
    if response.is_streamed and not error_page:
        flask.request.environ[_STREAMED] = True
