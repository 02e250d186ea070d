"""Which web pages may ask: those of the collector's own address, and those of origins that its user lists.

Refused is the request itself, whatever its method: without a preflight (a form, ``text/plain``) a page could not read
the answer, but would have written, or have had a costly question answered. A browser says where a page comes from in
``Origin``, and where it sends none (images, scripts) in ``Sec-Fetch-Site``. Neither can be forged by a page, and no
client but a browser sends them; a proxy that passes them on passes ``Host`` or ``X-Forwarded-Host`` on, too, by which
the page's own address is known. (A foreign page cannot add ``X-Forwarded-Host``: that takes a preflight.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders
from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.types import Message, Scope, Send

_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET,POST",
    "Access-Control-Allow-Headers": "authorization,content-encoding,content-type",
    "Access-Control-Max-Age": "600",
}
_PORTS = {"http": ":80", "https": ":443"}
_OWN_SITES = (b"same-origin", b"none")  # none: typed, or a bookmark
_SHOWN_CHARS = 100


class Origins:
    """``allowed`` as in the setting ``allowed_origins``: ``*``, or origins such as ``https://host``, in lower case."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = frozenset(allowed)
        self._any = "*" in self._allowed

    def refuse(self, headers: Mapping[bytes, bytes]) -> str:
        """Return why this request is refused, '' if it is not."""
        if self._any:
            return ""
        if b"origin" in headers:
            origin = _text(headers[b"origin"])
            if origin in self._allowed or _is_own(origin, headers):
                return ""
            return f"Pages of {origin[:_SHOWN_CHARS]!a} may not use this collector. See --allowed-origins."
        if _site(headers) in _OWN_SITES or headers.get(b"sec-fetch-mode") == b"navigate":
            return ""  # a link to a trace may stand on any page
        return "Other pages may not load anything from this collector. See --allowed-origins."

    def is_own(self, headers: Mapping[bytes, bytes]) -> bool:
        """Say whether no other page is behind this request."""
        if b"origin" in headers:
            return _is_own(_text(headers[b"origin"]), headers)
        return _site(headers) in _OWN_SITES or headers.get(b"sec-fetch-mode") == b"navigate"

    def preflight(self) -> Response:
        """Answer a browser that asks whether a page may ask; :meth:`marking` adds which page."""
        return Response(headers=_PREFLIGHT)

    def marking(self, send: Send, headers: Mapping[bytes, bytes]) -> Send:
        """Tell the browser whether the page may read the answer."""
        origin = _text(headers[b"origin"])

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                if self._any:
                    answer["Access-Control-Allow-Origin"] = "*"
                else:
                    answer.add_vary_header("origin")
                    if origin in self._allowed:
                        answer["Access-Control-Allow-Origin"] = origin
            await send(message)

        return marked


def is_preflight(scope: Scope) -> bool:
    """Say whether a browser only asks whether it may ask."""
    return scope["method"] == "OPTIONS" and any(
        name == b"access-control-request-method" for name, _ in scope["headers"]
    )


def _site(headers: Mapping[bytes, bytes]) -> bytes:
    return headers.get(b"sec-fetch-site", b"none")


def _text(origin: bytes) -> str:
    return origin.decode("latin-1").lower()


def _is_own(origin: str, headers: Mapping[bytes, bytes]) -> bool:
    scheme, separator, host = origin.partition("://")
    port = _PORTS.get(scheme, "")
    own = (headers.get(b"host", b""), headers.get(b"x-forwarded-host", b"").partition(b",")[0].strip())
    return bool(separator and host) and host.removesuffix(port) in [_text(name).removesuffix(port) for name in own]
