"""Django: requests under WSGI and ASGI, their routes and errors, templates; statements by ``_django_db``.

Hooked: ``WSGIHandler.__call__`` and ``ASGIHandler.__call__``, outside of all middleware, so handlers made before are
covered, and ``runserver`` with its static files. By hand: ``"clew.integrations.django.TraceMiddleware"`` in the setting
``MIDDLEWARE``. The route is what ``BaseHandler.resolve_request`` finds, for all kinds of views; the exception behind a
500, which Django answers itself, comes by its signal ``got_request_exception``. Of Channels, ``ProtocolTypeRouter`` and
``URLRouter``.

Span: ``SERVER``, ``GET /users/<int:pk>/``, tags by ``_http``. It ends when the view's response is ready, or, of a
streamed response and under ASGI, with the end of the body. A template is a span ``render users/list.html``, the
templates inside it (forms render one for every widget) are not.

Tested with Django 5.2 and 6.1, djangorestframework 3.18, channels 4.3, on wsgiref, gunicorn 27.0, uvicorn 0.54.
"""

from __future__ import annotations

import sys
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final

from clew._context import active
from clew._span import Span
from clew._tracer import start_span
from clew.integrations import _django_db, _imports, access_logs, asgi
from clew.integrations._hooks import Hooks
from clew.integrations._http import carried_by, set_route
from clew.integrations.wsgi import Environ, Exchange, StartResponse, trace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from clew.integrations._http import Carried

_TEMPLATE: Final = "template.name"  # the tag by which a template's span is known


def TraceMiddleware(get_response: Any) -> Any:  # noqa: N802 - Django takes functions, people look for the name
    """Trace this Django site: ``MIDDLEWARE = ["clew.integrations.django.TraceMiddleware", ...]``, at any place."""
    install()
    return get_response


TraceMiddleware.sync_capable = TraceMiddleware.async_capable = True  # type: ignore[attr-defined]


def install() -> None:
    """Trace every Django site of this process."""
    access_logs.install()
    _hooks.install()
    for hooks in _channels:
        hooks.install()
    _django_db.install()
    _imports.when_imported("django.core.signals", _connect)


def uninstall() -> None:
    """Undo ``install``."""
    _imports.forget("django.core.signals", _connect)
    _django_db.uninstall()
    for hooks in (_hooks, *_channels):
        hooks.uninstall()


# Requests.


def _around_wsgi(original: Any) -> Any:
    def call(self: Any, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        return trace(original.__get__(self), environ, start_response, _DjangoExchange)

    return call


class _DjangoExchange(Exchange):
    __slots__ = ()

    @staticmethod
    def is_complete(body: Iterable[bytes], environ: Environ) -> bool:
        """A response that is not streamed has been rendered, though servers get it as an iterable like any other."""
        return getattr(body, "streaming", None) is False or Exchange.is_complete(body, environ)


def _around_asgi(original: Any) -> Any:
    async def call(self: Any, scope: Any, receive: Any, send: Any) -> None:
        await asgi.trace(partial(original, self), scope, receive, send)

    return call


def _around_resolve(original: Any) -> Any:
    def resolve_request(self: Any, request: Any) -> Any:
        match = original(self, request)
        carried = _carried_by(request)
        if carried is not None and isinstance(carried.span, Span):
            prefix = request.path[: len(request.path) - len(request.path_info)]
            set_route(carried.span, f"{prefix}/{_readable(str(match.route))}")
        return match

    return resolve_request


def _carried_by(request: Any) -> Carried | None:
    return carried_by(getattr(request, "environ", None)) or carried_by(getattr(request, "scope", None))


def _connect(signals: Any) -> None:
    signals.got_request_exception.connect(_note_error)


def _note_error(sender: Any, request: Any = None, **_: Any) -> None:
    error = sys.exc_info()[1]
    carried = _carried_by(request)
    if error is not None and carried is not None and isinstance(carried.span, Span):
        carried.span.set_error(error)


@lru_cache(1_024)
def _readable(route: str) -> str:
    r"""Write a route of regular expressions like one of ``path()``: ``^users/(?P<pk>\d+)/$`` is ``users/<pk>/``."""
    if not any(mark in route for mark in "^$(\\"):
        return route
    read: list[str] = []
    at = 0
    while at < len(route):
        if route[at] == "(":
            end = _end_of_group(route, at)
            read.append(_group(route[at + 1 : end]))
            at = end
        elif route[at] == "\\" and at + 1 < len(route):
            at += 1
            read.append("" if route[at] in "AZbB" else route[at])
        elif route[at] not in "^$?*+":
            read.append(route[at])
        at += 1
    return "".join(read)


def _group(inside: str) -> str:
    if inside.startswith("?P<"):
        return f"<{inside[3 : inside.find('>')]}>"
    return _readable(inside[2:] + "$") if inside.startswith("?:") else "" if inside.startswith("?") else "<>"


def _end_of_group(route: str, start: int) -> int:
    """Return where the parenthesis that opens at ``start`` closes, past escapes and ``[...]``."""
    depth = 0
    at = start
    in_class = False
    while at < len(route):
        character = route[at]
        if character == "\\":
            at += 1
        elif in_class:
            in_class = character != "]"
        elif character == "[":
            in_class = True
        else:
            depth += (character == "(") - (character == ")")
            if depth == 0:
                return at
        at += 1
    return at


# Channels.


def _around_url_router(original: Any) -> Any:
    async def call(self: Any, scope: Any, receive: Any, send: Any) -> None:
        carried = carried_by(scope)
        if carried is not None:
            carried.route = f"{carried.route or '/'}{_channels_route(self.routes, scope)}"
        await original(self, scope, receive, send)

    return call


def _channels_route(routes: Any, scope: Any) -> str:
    """Find the pattern that the router is about to take, which it tells nobody."""
    path = scope.get("path_remaining")
    if path is None:
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
    for route in routes:
        try:
            if route.pattern.match(path.lstrip("/")):
                return _readable(str(route.pattern))
        except Exception:  # noqa: BLE001, S112 - the router itself is about to meet it
            continue
    return ""


# Templates.


def _around_render(original: Any) -> Any:
    def render(self: Any, context: Any = None, request: Any = None) -> Any:
        above = active()
        if above is None or (type(above) is Span and _TEMPLATE in above.tags):
            return original(self, context, request)
        name = getattr(self.template, "name", None) or "template"
        with start_span(f"render {name}", None, {_TEMPLATE: name}):
            return original(self, context, request)

    return render


_hooks = Hooks(
    {
        "django.core.handlers.wsgi": ("WSGIHandler", {"__call__": _around_wsgi}),
        "django.core.handlers.asgi": ("ASGIHandler", {"__call__": _around_asgi}),
        "django.core.handlers.base": ("BaseHandler", {"resolve_request": _around_resolve}),
        "django.template.backends.django": ("Template", {"render": _around_render}),
        "django.template.backends.jinja2": ("Template", {"render": _around_render}),
    }
)
_channels = (
    Hooks({"channels.routing": ("ProtocolTypeRouter", {"__call__": _around_asgi})}),
    Hooks({"channels.routing": ("URLRouter", {"__call__": _around_url_router})}),
)
