"""The page: static files without data, and the addresses under which users of Zipkin look for a trace.

Its policy (CSP) lets no inline script run and nothing load from elsewhere; the data comes over the API, with the cookie
that the page got for its token. So the files need no token themselves: see :func:`is_public`.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from clew.collector.trace.span import normalize_trace_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.routing import BaseRoute

_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/ui/page.css": ("page.css", "text/css; charset=utf-8"),
    "/ui/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/favicon.ico": ("icon.svg", "image/svg+xml"),
}
_PUBLIC = frozenset((*_FILES, "/zipkin", "/zipkin/"))
_TRACE_LINK = "/zipkin/traces/"
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # the browser asks each time and gets 304: a new version shows at once
}


def routes() -> list[BaseRoute]:
    """Return the routes of the page; its files are read now, once."""
    return [
        *(Route(path, _file(*file), methods=["GET"]) for path, file in _FILES.items()),
        Route("/zipkin", _to_list, methods=["GET"]),
        Route("/zipkin/", _to_list, methods=["GET"]),
        Route(_TRACE_LINK + "{trace_id}", _to_trace, methods=["GET"]),
    ]


def is_public(path: str) -> bool:
    """Say whether there is nothing at this path but the page, or a way to it.

    A link to a trace is followed from another site, where a browser does not send the cookie.
    """
    return path in _PUBLIC or path.startswith(_TRACE_LINK)


def _file(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    body = (resources.files("clew.collector") / "ui" / name).read_bytes()
    headers = {**_HEADERS, "ETag": f'"{hashlib.sha256(body).hexdigest()[:16]}"'}

    async def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type=media_type)

    return answer


async def _to_list(request: Request) -> Response:
    return RedirectResponse("/", 302)


async def _to_trace(request: Request) -> Response:
    """Only what is an id gets into the address: the path is hostile input."""
    try:
        return RedirectResponse(f"/#/trace/{normalize_trace_id(request.path_params['trace_id'].lower())}", 302)
    except ValueError:
        return RedirectResponse("/", 302)
