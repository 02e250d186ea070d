"""The one place that says what a span of an HTTP exchange means: its name, tags, remote endpoint and when it failed.

Integrations give it method, route, status and headers; they decide nothing. The rules, after Zipkin's:

* Name: ``METHOD route`` with the route's template (``GET /users/{id}``), or ``METHOD`` alone where there is no route. A
  path in a name would make as many names as there are users. A method that RFC 9110 and 5789 do not know is ``HTTP``.
  A WebSocket, or the wish for one, is ``WS route`` on every server and client.
* Server tags: ``http.method``, ``http.path`` (without the query), ``http.route``, ``http.status_code``. Client tags:
  ``http.method``, ``http.url``, ``http.status_code``. A URL loses its query, fragment and credentials: tokens and
  personal data live there, and a tag is no place for them. Exceptions' texts go through the same (``_secrets``).
* Failed is a server span with a status of 500 and above, a client span with 400 and above (tag ``error``, the status),
  and either when an exception left it (``error``, ``error.type``, ``error.stack``).
* Remote endpoint: a server's is the address of its client; a client's is the host it calls (as a service name, or as an
  address where it is one) and the port.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from clew._context import Node, TraceContext, current
from clew._secrets import clean_url
from clew._span import Endpoint, Span
from clew._tracer import outgoing_headers, remote_span, start_entry_span, start_span
from clew.wire import MAX_TAG_VALUE_CHARS, cut

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SPAN: Final = "clew.span"  # where a request (ASGI scope, WSGI environ, ...) carries its server span: there is only one
TRACE_HEADER: Final = "X-Trace-ID"  # on responses, so that a user can quote it
TRACE_HEADER_LOWER: Final = "x-trace-id"

WEBSOCKET: Final = "WS"  # stands for the method in the name of a connection that is, or asks to be, a WebSocket

_TRACE_HEADER: Final = TRACE_HEADER_LOWER.encode()  # as ASGI has it
_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"))
_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}

inject = outgoing_headers  # the headers that make the callee a child of a client span


def is_websocket(upgrade: object) -> bool:
    """Tell a WebSocket's handshake by the header ``Upgrade``, which may be absent (None)."""
    return isinstance(upgrade, str) and upgrade.lower() == "websocket"


# The server's side.


class Carried:
    """A request's server span, as the request's own dict (ASGI scope, WSGI environ) carries it.

    Programs copy such dicts and send them to other processes. A copy names the same span, what was pickled comes out
    with its ids; either is equal to this one. ``route``: what the framework's router found; ``relayed``: a middleware
    answers in the place of what is beneath it; ``error``: what broke the response off there; ``failure``: what an inner
    application raised, whatever became of it; ``complete``: the framework has made the whole body, whatever the server
    does with it.
    """

    route: str | None = None  # these stand on the class until they are set: one is made for every request
    relayed = False
    complete = False
    error: BaseException | None = None
    failure: BaseException | None = None

    def __init__(self, span: Node) -> None:
        self.span = span

    def __copy__(self) -> Carried:
        return self

    def __deepcopy__(self, memo: object) -> Carried:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        span = self.span
        return _restore, (span.trace_id, span.span_id, span.parent_id, span.sampled)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Carried):
            return NotImplemented
        return (self.span.trace_id, self.span.span_id) == (other.span.trace_id, other.span.span_id)

    def __hash__(self) -> int:
        return hash(self.span.span_id)

    def __repr__(self) -> str:
        return f"<clew {self.span.trace_id}:{self.span.span_id}>"


def _restore(trace_id: str, span_id: str, parent_id: str | None, sampled: bool) -> Carried:
    return Carried(remote_span(TraceContext(trace_id, span_id, parent_id, sampled)))


def carried_by(request: object) -> Carried | None:
    """Return what a request's dict carries, None for anything else."""
    found = request.get(SPAN) if isinstance(request, dict) else None
    return found if isinstance(found, Carried) else None


def bridged(method: str, path: str) -> Carried | None:
    """Return the span of this very request where a server of another interface made it and could not hand it on.

    ASGI servers and frameworks serve WSGI applications, with a dict of their own, in the same context.
    """
    span = current.get()
    if type(span) is not Span or span.kind != "SERVER" or span.duration_ns >= 0:
        return None
    tags = span.tags
    return Carried(span) if tags.get("http.method") == method and tags.get("http.path") == path else None


def start_server(method: str, path: str, headers: Mapping[str, str], websocket: bool = False) -> Span:
    """Start the span of an incoming request and make it active. ``headers``: the trace's, names in lower case."""
    span = start_entry_span(WEBSOCKET if websocket else method if method in _METHODS else "HTTP", headers)
    tags = span.tags
    tags["http.method"] = method if len(method) <= 20 else cut(method, 20)
    tags["http.path"] = path if len(path) <= MAX_TAG_VALUE_CHARS else cut(path, MAX_TAG_VALUE_CHARS)
    return span


def set_route(span: Span, route: str | None) -> None:
    """Complete the name by the route's template, once it is known; the first of several stands."""
    if route and "http.route" not in span.tags:
        span.name = f"{span.name} {route}"
        span.tags["http.route"] = route


def finish_server(span: Span, status: int, error: BaseException | None = None) -> None:
    """End a server span. ``status`` 0: no response was begun; with an exception the server will then answer 500."""
    if error is not None:
        span.set_error(error)
        status = status or 500
    if status:
        span.tags["http.status_code"] = str(status)
        if status >= 500 and "error" not in span.tags:
            span.tags["error"] = str(status)
    span.finish()


def add_trace_id(headers: Iterable[tuple[bytes, bytes]], span: Node) -> list[tuple[bytes, bytes]]:
    """Return ASGI response headers with the trace id, once. A copy: applications keep and reuse responses."""
    added = [pair for pair in headers if pair[0] != _TRACE_HEADER]
    added.append((_TRACE_HEADER, span.trace.trace_id.encode()))
    return added


# The client's side.


def start_client(method: str, url: str, websocket: bool = False) -> Span:
    """Start the span of an outgoing request and make it active."""
    method = method.upper()
    span = start_span(WEBSOCKET if websocket else method if method in _METHODS else "HTTP", "CLIENT")
    shown, span.remote = _split(url)
    tags = span.tags
    tags["http.method"] = method if len(method) <= 20 else cut(method, 20)
    tags["http.url"] = shown if len(shown) <= MAX_TAG_VALUE_CHARS else cut(shown, MAX_TAG_VALUE_CHARS)
    return span


def set_client_status(span: Span, status: object) -> None:
    """Note the status of the response; what an adapter of the application's own gives may be none."""
    if not isinstance(status, int) or not status:
        return
    text = str(status)
    span.tags["http.status_code"] = text
    if status >= 400:
        span.tags["error"] = text


def _split(url: str) -> tuple[str, Endpoint | None]:
    """Return a URL without credentials, query and fragment, and the endpoint that it names."""
    if "@" in url:
        url = clean_url(url)
    for mark in "?#":
        if mark in url:
            url = url[: url.index(mark)]
    scheme, found, rest = url.partition("://")
    return (url, endpoint(scheme, rest.partition("/")[0])) if found else (url, None)


@lru_cache(1_024)  # one Endpoint for all calls to a host: it is never changed
def endpoint(scheme: str, authority: str) -> Endpoint:
    host, _, port = authority.rpartition(":")
    if not port.isdecimal() or (":" in host and not host.endswith("]")):
        host, port = authority.rstrip(":"), ""
    number = int(port) if len(port) in range(1, 6) else _PORTS.get(scheme.lower())
    host = host.strip("[]")
    if ":" in host or host.replace(".", "").isdecimal():
        return Endpoint(None, host, number)
    return Endpoint(host or None, None, number)
