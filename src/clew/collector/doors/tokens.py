"""Who has a token, and what it is good for: to write (send spans and logs), to read (everything else), or both.

Programs send ``Authorization: Bearer``. A browser gets a cookie for its token: by ``POST /api/v1/session`` with that
header, as the page does, or by opening any address with ``?token=``, which is at once led on to the same address
without it, so that the token stays in no history, referrer or screenshot. The cookie holds not the token but what
follows from it, is out of reach of scripts, is sent by the collector's own pages only, and is good for reading alone.

Nothing here is ever logged. Comparing takes as long for a near miss as for any other text.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, quote, unquote_to_bytes

from starlette.responses import PlainTextResponse, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from starlette.types import Scope

    from clew.collector.settings import Token

SESSION_PATH: Final = "/api/v1/session"
_UNKNOWN: Final = "A token is needed: send the header 'Authorization: Bearer TOKEN' (clients: CLEW_TOKEN).\n"
_PATH_CHARS: Final = "/%:@!$&'()*+,;=-._~"  # what a path may hold as it is
_QUERY_CHARS: Final = _PATH_CHARS + "?"


class Tokens:
    """All tokens of this collector; false if there are none, and then nobody is asked for one."""

    def __init__(
        self, tokens: Sequence[Token], writes: Callable[[str, str], bool], is_open: Callable[[str], bool]
    ) -> None:
        self._tokens = [(_digest(token.secret.encode()), token) for token in tokens]
        self._cookies = {_cookie_name(token): token for token in tokens if token.read}
        self._writes = writes
        self._is_open = is_open

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def answer(self, scope: Scope, headers: Mapping[bytes, bytes], own_page: bool) -> Response | None:
        """Return the answer to a request that may not pass, or that brings its token; None if it may pass."""
        path, method = scope["path"], scope["method"]
        if method in ("GET", "HEAD") and (given := _in_address(scope["query_string"])):
            return self._enter(scope, self._find(given), _address_without_token(scope))
        if path == SESSION_PATH and method == "POST":
            return self._enter(scope, self._of_header(headers), "")
        if self._is_open(path):
            return None
        writes = self._writes(method, path)
        token = self._of_header(headers)
        if token is None and own_page and not writes:
            token = self._of_cookie(headers)
        if token is None:
            return _unknown()
        return _wrong_purpose(token, writes)

    def _find(self, given: bytes) -> Token | None:
        """Compare with each, to the end, whether found or not."""
        digest, found = _digest(given), None
        for known, token in self._tokens:
            if hmac.compare_digest(digest, known):
                found = token
        return found

    def _of_header(self, headers: Mapping[bytes, bytes]) -> Token | None:
        value = headers.get(b"authorization", b"")
        return self._find(value[7:].strip()) if value[:7].lower() == b"bearer " else None

    def _of_cookie(self, headers: Mapping[bytes, bytes]) -> Token | None:
        for part in headers.get(b"cookie", b"").split(b";"):
            name, _, value = part.strip().partition(b"=")
            token = self._cookies.get(name.decode("latin-1"))
            if token and hmac.compare_digest(value, _cookie_value(token).encode()):
                return token
        return None

    def _enter(self, scope: Scope, token: Token | None, location: str) -> Response:
        """Give the browser the cookie that stands for its token; lead it on to ``location``, unless that is ''."""
        if token is None:
            return _unknown()
        if refused := _wrong_purpose(token, writes=False):
            return refused
        secure = "; Secure" if _is_https(scope) else ""
        cookie = f"{_cookie_name(token)}={_cookie_value(token)}; Path=/; HttpOnly; SameSite=Strict{secure}"
        headers = {"Set-Cookie": cookie, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
        if location:
            return Response(status_code=303, headers={**headers, "Location": location})
        return Response(status_code=204, headers=headers)


def _unknown() -> Response:
    headers = {"WWW-Authenticate": "Bearer", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
    return PlainTextResponse(_UNKNOWN, 401, headers)


def _wrong_purpose(token: Token, writes: bool) -> Response | None:
    if writes and not token.write:
        return PlainTextResponse("This token may read, not write. Send data with one that may.\n", 403)
    if not writes and not token.read:
        return PlainTextResponse("This token may write, not read. Ask with one that may.\n", 403)
    return None


def _digest(secret: bytes) -> bytes:
    """Return something of one length, so that comparing does not tell how long a token is."""
    return hashlib.sha256(secret).digest()


def _cookie_name(token: Token) -> str:
    """Return a name for each token: cookies do not know ports, and two collectors may share a host."""
    return f"clew-{_derived(token, 'name')[:8]}"


def _cookie_value(token: Token) -> str:
    return _derived(token, "session")


def _derived(token: Token, use: str) -> str:
    return hmac.new(token.secret.encode(), f"clew cookie {use}".encode(), hashlib.sha256).hexdigest()


def _in_address(query: bytes) -> bytes:
    """Return the token of a query string, b'' if there is none."""
    if b"token=" not in query:  # most have none
        return b""
    pairs = parse_qsl(query.decode("latin-1"), encoding="latin-1")
    return next((value.encode("latin-1", "replace") for name, value in pairs if name == "token"), b"")


def _address_without_token(scope: Scope) -> str:
    """Return path and query as they came, the token left out.

    Relative to where the browser is, so a proxy may have put us beneath any path, and it never leads to another host.
    """
    last = quote(scope["raw_path"].rpartition(b"/")[2], safe=_PATH_CHARS)
    kept = _without(scope["query_string"].split(b"&"))
    return f"./{last}?{quote(kept, safe=_QUERY_CHARS)}" if kept else f"./{last}"


def _without(parts: Iterable[bytes]) -> bytes:
    return b"&".join(part for part in parts if unquote_to_bytes(part.partition(b"=")[0]) != b"token")


def _is_https(scope: Scope) -> bool:
    """Say whether the browser speaks TLS, with us or with a proxy before us."""
    return scope["scheme"] == "https" or (b"x-forwarded-proto", b"https") in scope["headers"]
