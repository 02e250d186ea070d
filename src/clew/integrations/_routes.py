"""Which route a request took through Starlette's and FastAPI's routers, as a template: ``/v/{version}/orders/{id}``.

Between their routers and ``asgi``. The scope tells it in other ways in each version, and of a mounted app not at all;
but in all of them a router calls ``handle`` of what it has chosen. A ``Mount`` adds its path to what is below it, in a
copy of the scope as well. A mounted app without routes (``StaticFiles``), or that knows no such path, has the mount's
own path as its route.

``handle`` is also where a response that breaks off is seen beneath a ``BaseHTTPMiddleware``, which ends the response as
if it were whole before it lets the exception out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from clew._patch import patch, unpatch
from clew.integrations import _imports
from clew.integrations._http import SPAN, Carried

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

MOUNTS: Final = "clew.mounts"  # where a scope carries the paths of the mounts that it came through


def install() -> None:
    """Follow the routers that are or will be imported. Idempotent."""
    for module, follow in _MODULES.items():
        _imports.when_imported(module, follow)


def uninstall() -> None:
    """Undo ``install``."""
    for module, follow in _MODULES.items():
        _imports.forget(module, follow)
    while _patched:
        unpatch(*_patched.pop())


def route_of(scope: MutableMapping[str, Any]) -> str | None:
    """Return the route of a router whose routes have a ``handle`` of their own, if it left one in the scope."""
    path = getattr(scope.get("route"), "path", None)
    known = isinstance(path, str) and hasattr(scope["route"], "endpoint")
    return f"{scope.get(MOUNTS, '')}{path}" if known else None


_patched: list[tuple[Any, str]] = []


def _follow(owner: Any, make: Any, name: str = "handle") -> None:
    patch(owner, name, make)
    _patched.append((owner, name))


def _follow_starlette(routing: Any) -> None:
    _follow(routing.Mount, _around_mount)
    _follow(routing.Route, _around_route)
    _follow(routing.WebSocketRoute, _around_route)


def _follow_base_middleware(base: Any) -> None:
    _follow(base.BaseHTTPMiddleware, _around_base_middleware, "__call__")


def _follow_fastapi(routing: Any) -> None:
    if "handle" in vars(routing.APIRoute):  # since 0.13x: one that knows nothing of an included router's prefix
        _follow(routing.APIRoute, _around_route)


def _around_mount(original: Any) -> Any:
    def handle(self: Any, scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        carried = scope.get(SPAN)
        if type(carried) is Carried:
            scope[MOUNTS] = carried.route = scope.get(MOUNTS, "") + self.path
            if carried.relayed:
                return _watch(carried, original, self, scope, receive, send)
        return original(self, scope, receive, send)  # type: ignore[no-any-return]

    return handle


def _around_route(original: Any) -> Any:
    def handle(self: Any, scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        carried = scope.get(SPAN)
        if type(carried) is Carried:
            carried.route = scope.get(MOUNTS, "") + _path(self, scope)
            if carried.relayed:
                return _watch(carried, original, self, scope, receive, send)
        return original(self, scope, receive, send)  # type: ignore[no-any-return]

    return handle


def _around_base_middleware(original: Any) -> Any:
    def call(self: Any, scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        carried = scope.get(SPAN)
        if type(carried) is Carried and scope["type"] == "http":
            carried.relayed = True
        return original(self, scope, receive, send)  # type: ignore[no-any-return]

    return call


async def _watch(carried: Carried, handle: Any, route: Any, scope: Any, receive: Any, send: Any) -> None:
    """Note the exception that breaks a response off; what fails before or after it has other ways to be seen."""
    response = _Response(send)
    try:
        await handle(route, scope, receive, response.send)
    except Exception as error:
        if response.begun:
            carried.error = error
        raise


class _Response:
    """Whether a response has begun and is not yet whole."""

    __slots__ = ("_send", "begun")

    def __init__(self, send: Callable[[Any], Awaitable[None]]) -> None:
        self._send = send
        self.begun = False

    def send(self, message: Any) -> Awaitable[None]:
        kind = message["type"]
        if kind == "http.response.start":
            self.begun = True
        elif kind == "http.response.pathsend" or (kind == "http.response.body" and not message.get("more_body")):
            self.begun = False
        return self._send(message)


def _path(route: Any, scope: Any) -> str:
    """Return the route's path; FastAPI, since 0.13x, keeps that of a route in an included router apart from it."""
    context = scope.get("fastapi")
    effective = context.get("effective_route_context") if type(context) is dict else None
    if effective is not None and getattr(effective, "original_route", None) is route:
        path = getattr(effective, "path", None)
        if type(path) is str:
            return path
    return str(route.path)


_MODULES: Final = {
    "starlette.routing": _follow_starlette,
    "starlette.middleware.base": _follow_base_middleware,
    "fastapi.routing": _follow_fastapi,
}
