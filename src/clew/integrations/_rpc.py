"""The one place that says what a span of a remote procedure call means: its name, tags, status, messages, failure.

The rules:

* Name: ``package.Service/Method``, as Brave has it. Tags: ``rpc.system`` (``grpc``), ``rpc.service``, ``rpc.method``,
  ``grpc.status_code`` (``OK``, ``NOT_FOUND``), as OpenTelemetry's conventions name them.
* Failed is a client's span with any status but ``OK``. A server's span failed only by a status that is the server's own
  fault: what a caller did wrong (``NOT_FOUND``, ``INVALID_ARGUMENT``) or gave up (``CANCELLED``) is no failure of it.
  Tags: ``error`` (``NOT_FOUND: no such order``), ``error.type`` (``NOT_FOUND``), or those of the exception.
* A stream has ``rpc.messages_sent`` and ``rpc.messages_received``, and the times of the first and the last message each
  way as annotations.
* Remote endpoint: a client's is the target it was made for, a server's the address of its peer.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from clew import _context
from clew._context import current
from clew._propagation import HEADERS
from clew._span import Endpoint, Span
from clew._tracer import outgoing_headers, start_entry_span, start_span
from clew.integrations._http import endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from clew._context import Node

    Leave = Callable[["ServerCall", Any, BaseException | None], None]  # ends the span by what the handler left behind

SERVER_FAULTS: Final = frozenset(
    ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "RESOURCE_EXHAUSTED")
)


class Messages:
    """How many messages went each way, and when the first and the last one did. Counts no order between threads."""

    __slots__ = ("first_received", "first_sent", "last_received", "last_sent", "received", "sent")

    def __init__(self) -> None:
        self.sent = self.received = 0
        self.first_sent = self.last_sent = self.first_received = self.last_received = 0

    def note_sent(self) -> None:
        """Count a message that goes out now."""
        self.last_sent = _context.ticks_ns()
        self.sent += 1
        if self.sent == 1:
            self.first_sent = self.last_sent

    def note_received(self) -> None:
        """Count a message that has come in now."""
        self.last_received = _context.ticks_ns()
        self.received += 1
        if self.received == 1:
            self.first_received = self.last_received

    def put_on(self, span: Span) -> None:
        """Write the counts as tags and the times as annotations."""
        span.tags["rpc.messages_sent"] = str(self.sent)
        span.tags["rpc.messages_received"] = str(self.received)
        for count, way, first, last in (
            (self.sent, "sent", self.first_sent, self.last_sent),
            (self.received, "received", self.first_received, self.last_received),
        ):
            if count:
                span.annotate(f"first message {way}", first)
            if count > 1:
                span.annotate(f"last message {way}", last)


class ClientStream:
    """A call of a client that streams: its span ends when the status is there and nobody is about to read a message.

    The status may be noticed, in another thread, between the moment in which the last message arrives and the one in
    which its reader counts it.
    """

    def __init__(self, span: Span, messages: Messages) -> None:
        self.messages = messages
        self._span = span
        self._lock = threading.Lock()
        self._readers = 0
        self._status: tuple[str, str | None] | None = None

    def begin_read(self) -> None:
        """Somebody waits for a message."""
        with self._lock:
            self._readers += 1

    def end_read(self, received: bool) -> None:
        """It came, or the stream has ended."""
        with self._lock:
            self._readers -= 1
            if received:
                self.messages.note_received()
            status = self._status if not self._readers else None
        if status is not None:
            finish_client(self._span, *status, self.messages)

    def end(self, status: str, details: str | None) -> None:
        """The call has its status."""
        with self._lock:
            self._status = status, details
            reading = self._readers > 0
        if not reading:
            finish_client(self._span, status, details, self.messages)


class Steps:
    """An iterator whose steps run inside a span, and count."""

    def __init__(self, inner: Iterable[Any], node: Node, count: Callable[[], None]) -> None:
        self._inner = iter(inner)
        self._node = node
        self._count = count

    def __iter__(self) -> Steps:
        return self

    def __next__(self) -> Any:
        previous = current.get()
        current.set(self._node)
        try:
            message = next(self._inner)
        finally:
            current.set(previous)
        self._count()
        return message


class ServerCall:
    """One call at the server: its span, its messages, its end. The span may begin and go on in different threads."""

    def __init__(self, span: Span) -> None:
        self.span = span
        self.messages: Messages | None = None  # of a call that streams

    def enter(self, peer_address: str) -> Node | None:
        """Make the span active where the handler runs; return what was."""
        self.span.remote = peer(peer_address)
        previous = current.get()
        self.span.previous = previous
        current.set(self.span)
        return previous

    def note_sent(self) -> None:
        """Count a message that goes out, if this call streams."""
        if self.messages is not None:
            self.messages.note_sent()

    def note_received(self) -> None:
        """Count a message that came in, if this call streams."""
        if self.messages is not None:
            self.messages.note_received()

    def finish(self, status: str, details: str | None = None, error: BaseException | None = None) -> None:
        """End the span, once. ``error``: the exception that left the handler, if one did."""
        if self.span.duration_ns >= 0:
            return
        if error is not None:
            self.span.set_error(error)
        _finish(self.span, status, details, self.messages, status in SERVER_FAULTS)

    def __del__(self) -> None:
        """A call that was given up before its handler ran, or while nobody read what it had to say."""
        self.finish("CANCELLED")


def answering(call: ServerCall, behavior: Any, leave: Leave) -> Any:
    """Return a handler with one answer that runs inside the call's span; ``leave`` ends it."""

    def run(request: Any, context: Any) -> Any:
        previous = call.enter(context.peer())
        try:
            response = behavior(counted(call, request), context)
        except BaseException as error:
            leave(call, context, error)
            raise
        else:
            call.note_sent()
            leave(call, context, None)
            return response
        finally:
            current.set(previous)

    return run


def streaming(call: ServerCall, behavior: Any, leave: Leave) -> Any:
    """Return a handler with many answers whose steps run inside the call's span; ``leave`` ends it."""

    def run(request: Any, context: Any) -> Iterator[Any]:
        previous = call.enter(context.peer())
        try:
            responses = Steps(behavior(counted(call, request), context), call.span, call.note_sent)
            current.set(previous)
            yield from responses
        except GeneratorExit:  # nobody reads on
            leave(call, context, None)
            raise
        except BaseException as error:
            leave(call, context, error)
            raise
        leave(call, context, None)

    return run


def counted(call: ServerCall, request: Any) -> Any:
    """Count what comes in: one message, or each of a stream."""
    if call.messages is not None and hasattr(request, "__next__"):
        return Steps(request, call.span, call.note_received)
    call.note_received()
    return request


def start_client(method: str | bytes, target: str | bytes) -> Span:
    """Start the span of a call and make it active. ``method``: ``/package.Service/Method``; ``target``: a channel's."""
    path = _text(method)
    span = start_span(path, "CLIENT")
    _describe(span, path)
    span.remote = peer(_text(target))
    return span


def start_server(method: str | bytes, metadata: Iterable[Any]) -> Span:
    """Start the span of a call that came in and make it active."""
    path = _text(method)
    span = start_entry_span(path, trace_headers(metadata))
    _describe(span, path)
    return span


def trace_headers(metadata: Iterable[Any]) -> dict[str, str]:
    """Pick the headers of a trace from a call's metadata, with repeated ones joined by commas."""
    found: dict[str, str] = {}
    for pair in metadata:
        name, value = pair[0], pair[1]
        if name in HEADERS:
            text = _text(value)
            found[name] = f"{found[name]},{text}" if name in found else text
    return found


def with_trace(metadata: Iterable[Any] | None, span: Span) -> list[tuple[str, Any]]:
    """Return a copy of a call's metadata that makes the callee a child of ``span``."""
    ours = {name.lower(): value for name, value in outgoing_headers(span).items()}  # capitals are not allowed here
    kept = [pair for pair in metadata or () if pair[0] not in ours]
    return [*kept, *ours.items()]


def finish_client(span: Span, status: str, details: str | None = None, messages: Messages | None = None) -> None:
    """End a client's span by the status of the call."""
    _finish(span, status, details, messages, status != "OK")


def _finish(span: Span, status: str, details: str | None, messages: Messages | None, failed: bool) -> None:
    if span.duration_ns >= 0:
        return
    if messages is not None:
        messages.put_on(span)
    tags = span.tags
    tags["grpc.status_code"] = status
    if failed and "error" not in tags:
        span.set_error(f"{status}: {details}" if details else status)
        tags["error.type"] = status
    span.finish()


def _describe(span: Span, path: str) -> None:
    path = path[1:] if path.startswith("/") else path
    span.name = path
    service, _, method = path.rpartition("/")
    tags = span.tags
    tags["rpc.system"] = "grpc"
    if service:
        span.tag("rpc.service", service)
    span.tag("rpc.method", method)


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def peer(target: str) -> Endpoint | None:
    """Return what gRPC's name of a place says: ``dns:///orders:50051``, ``ipv6:%5B::1%5D:50051``, ``unix:/run/x``."""
    scheme, found, rest = target.partition(":")
    if not target or scheme in ("unix", "unix-abstract", "vsock"):
        return None
    if found and scheme in ("dns", "ipv4", "ipv6", "xds", "passthrough", "fd"):
        target = rest.rpartition("/")[2].partition(",")[0].replace("%5B", "[").replace("%5D", "]")
    return endpoint("", target)
