"""What a connection may take before its request is known: bytes, time, and a place among all connections.

uvicorn reads HTTP (by llhttp) and bounds none of these: a header may grow for ever, a connection may send half a
request and wait, or ask and not read. Here each is bounded, before any token is looked at:

* *Bytes*: what is not body (head, trailers, chunk sizes) has a limit of its own; bodies that are not answered yet have
  one together.
* *Time*: a head must come within some seconds, a body at a least speed; an answer must be read.
* *Places*: when all are taken, a newcomer gets the place of whoever has let us wait the longest. So ten thousand
  connections that send nothing keep nobody out: a request that is sent whole is never cut off for another's sake.

One sweep a second looks at all connections; a request costs nothing but a few additions.
"""

from __future__ import annotations

import contextlib
import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from clew.collector.metrics import Metrics

SWEEP_S: Final = 1.0
FILES_KEPT: Final = 1_024  # descriptors that the store, files and UDP need beside connections
SMALL_CHUNKS: Final = 8  # bytes beside the body for each byte of it, when it comes in chunks of one byte
ENDING_S: Final = 1.0  # for half-sent requests and unread answers when the collector ends

IDLE, HEAD, BODY, ANSWER = "idle", "head", "body", "answer"  # whom a connection waits for: ANSWER for us, else for them


@dataclass(frozen=True)
class Limits:
    """Bytes, seconds, and how many."""

    connections: int = 8_192
    head_bytes: int = 64 << 10
    head_s: float = 20.0
    idle_s: float = 75.0  # between requests
    body_s: float = 20.0  # and, beyond that, as long as its bytes take at body_rate
    body_rate: int = 32 << 10  # bytes a second
    bodies_bytes: int = 128 << 20
    unread_s: float = 30.0  # an answer of which nothing is read
    unread_bytes: int = 256 << 20  # of all answers


class Connections:
    """All connections of one server. One event loop; not thread-safe, but for the gauge."""

    def __init__(self, metrics: Metrics, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.ending = False
        self._metrics = metrics
        self._places = _places(self.limits.connections)
        self._all: dict[Connection, None] = {}
        self._bodies_bytes = 0
        self._sweeping = False
        metrics.gauge("http_connections", lambda: len(self._all))

    def __call__(self, **uvicorn: Any) -> Connection:
        """Make a connection, as uvicorn makes its protocols."""
        return Connection(self, **uvicorn)

    def enter(self, connection: Connection) -> None:
        """Give a new connection its place, perhaps another's."""
        self._all[connection] = None
        if len(self._all) > self._places:
            self._make_room(connection)
        if not self._sweeping:
            self._sweeping = True
            connection.loop.call_later(SWEEP_S, self._sweep, connection.loop)

    def leave(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._all.pop(connection, None)

    def hold(self, size: int) -> None:
        """Count bytes of bodies that came in (below 0: that are done with); when it is too much, drop the slowest."""
        self._bodies_bytes += size
        if size > 0 and self._bodies_bytes > self.limits.bodies_bytes:
            text = "Too many bodies are under way. Send again in a moment."
            answer = _answer("503 Service Unavailable", text, "Retry-After: 5\r\n")
            for one in self._longest(one for one in self._all if one.state() == BODY):
                self.drop(one, "bodies", answer)

    def drop(self, connection: Connection, reason: str, answer: bytes = b"") -> None:
        """Close a connection, with an answer if it expects one, and count it."""
        self._metrics.count("http_connections_dropped_total", reason=reason)
        connection.end(answer)

    def _make_room(self, newcomer: Connection) -> None:
        waiting = self._longest(one for one in self._all if one is not newcomer and one.state() != ANSWER)
        for one in waiting:
            self.drop(one, "places")
            self.leave(one)
            one.transport.abort()  # now, not when the last answer is read
        if not waiting:
            self.drop(newcomer, "places", _answer("503 Service Unavailable", "Too many requests are under way."))

    def _longest(self, waiting: Iterable[Connection]) -> list[Connection]:
        """Return those that have let us wait the longest, before any body; some at once, for looking takes a while."""
        found = [one for one in waiting if not one.is_closing()]
        found.sort(key=lambda one: (one.state() == BODY, one.since))
        return found[: 1 + len(found) // 50]

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in list(self._all):
            self._look_at(connection, now)
        self._drop_most_unread()
        self._sweeping = bool(self._all)
        if self._sweeping:
            loop.call_later(SWEEP_S, self._sweep, loop)

    def _look_at(self, connection: Connection, now: float) -> None:
        limits = self.limits
        if connection.unread_s(now) > (ENDING_S if self.ending else limits.unread_s):
            self.drop(connection, "unread")
            connection.transport.abort()
            return
        state, waited = connection.state(), now - connection.since
        if state == HEAD and waited > (ENDING_S if self.ending else limits.head_s):
            self.drop(
                connection, "head_slow", _answer("408 Request Timeout", "The head of the request came too slowly.")
            )
        elif state == BODY and waited > (
            ENDING_S if self.ending else limits.body_s + connection.body / limits.body_rate
        ):
            self.drop(connection, "body_slow", _answer("408 Request Timeout", "The body came too slowly."))
        elif state == IDLE and waited > (limits.idle_s if connection.cycle else limits.head_s):
            self.drop(connection, "idle")

    def _drop_most_unread(self) -> None:
        unread = {one: one.unread for one in self._all if one.unread}
        total = sum(unread.values())
        for one in sorted(unread, key=lambda one: -unread[one]):
            if total <= self.limits.unread_bytes:
                return
            total -= unread[one]
            self.drop(one, "unread")
            one.transport.abort()


class Connection(HttpToolsProtocol):
    """One connection, made by :class:`Connections`. ``since``: when its state began, on the loop's clock."""

    def __init__(self, connections: Connections, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self.since = 0.0
        self.body = 0  # bytes of the body of this request, so far
        self.unread = 0  # bytes of answers that the client has not taken, when last looked at
        self._all = connections
        self._held = 0  # bytes of bodies that wait for their answers
        self._beside = 0  # bytes of this request that are not body
        self._in_head = False
        self._too_large = False
        self._read_at = 0.0  # when the client last took something

    def state(self) -> str:
        """Say whom we wait for."""
        cycle = self.cycle
        if self.pipeline or (cycle is not None and not cycle.response_complete):
            return BODY if cycle.more_body and not self.flow.read_paused else ANSWER
        return HEAD if self._in_head else IDLE

    def is_closing(self) -> bool:
        """Say whether it is about to end anyway."""
        return self.transport.is_closing()

    def unread_s(self, now: float) -> float:
        """Return for how many seconds nothing was taken of what we have sent; 0 when there is nothing."""
        unread = self.transport.get_write_buffer_size()
        if not unread or unread < self.unread:
            self._read_at = now
        self.unread = unread
        return now - self._read_at if unread else 0.0

    def end(self, answer: bytes) -> None:
        """Close; ``answer`` comes first, unless another answer is under way."""
        if self.transport.is_closing():
            return
        if answer and not self._answering():
            self.transport.write(answer)
        self.transport.close()
        self._release()

    def _answering(self) -> bool:
        return bool(self.pipeline) or (
            self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
        )

    # --- what the transport, the parser and uvicorn tell us ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self.since = self._read_at = self.loop.time()
        self._all.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give back what it held."""
        self._all.leave(self)
        self._release()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless it is no HTTP, or what is not body becomes too much."""
        self._beside += len(data)
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # answered as if it had not asked for that; what follows cannot be read
            self.cycle.keep_alive = False
        except httptools.HttpParserError:
            self._refuse()
        if self._beside > self._all.limits.head_bytes + SMALL_CHUNKS * self.body:
            self._drop_too_large()

    def _refuse(self) -> None:
        if self._too_large:
            self._drop_too_large()
        else:
            self._all.drop(self, "no_http", _answer("400 Bad Request", "This is not HTTP/1.1."))

    def _drop_too_large(self) -> None:
        if self.is_closing():
            return
        size = self._all.limits.head_bytes
        text = f"What is not body is larger than {size} bytes. Send less in the address and in headers."
        self._all.drop(self, "head_large", _answer("431 Request Header Fields Too Large", text))

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._beside = self.body = 0
        self._in_head = True
        if self.state() == HEAD:
            self.since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Hand the request on, if its head is not too large, though it came at once."""
        self._in_head = False
        if sum([len(name) + len(value) for name, value in self.headers], len(self.url)) > self._all.limits.head_bytes:
            self._too_large = True
            raise ValueError("the head is too large")
        self.since = self.loop.time()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count what is held until it is answered."""
        self._beside -= len(body)
        self.body += len(body)
        if not self.cycle.response_complete:
            self._held += len(body)
            self._all.hold(len(body))
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._release()
        self.since = self.loop.time()
        super().on_response_complete()

    def _release(self) -> None:
        self._all.hold(-self._held)
        self._held = 0


def _places(wanted: int) -> int:
    """Return how many connections there may be; raise the process's bound on open files if it is lower than that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + FILES_KEPT
    if soft != resource.RLIM_INFINITY and soft < needed:
        with contextlib.suppress(OSError, ValueError):  # some systems have a lower bound than they tell
            soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return wanted if soft == resource.RLIM_INFINITY else min(wanted, max(soft - FILES_KEPT, soft // 2))


def _answer(status: str, text: str, headers: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(text) + 1}\r\n"
        f"{headers}Connection: close\r\n\r\n{text}\n"
    ).encode()
