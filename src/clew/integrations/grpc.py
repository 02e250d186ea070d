"""gRPC by grpcio, with threads: channels and servers. Those of ``grpc.aio`` are in ``grpc_aio``.

Hooked, at the channel's side: the callables of each kind of call (``_UnaryUnaryMultiCallable`` and its kin), the step
below all interceptors. So channels that were made before are traced, an interceptor that tries again makes a span each
time, and the order of interceptors does not matter. At the server's side: ``grpc.server()`` gets one more interceptor,
before all others, so that their log lines carry the ids as well. Servers made before ``install`` are not traced.

Span: ``CLIENT`` and ``SERVER``, ``package.Service/Method``, tags by ``_rpc``. A client's span of a stream, or of a
``future()``, ends when the status is there; it is active only until the call is under way. A server's span is active in
the handler, and while it produces a stream.

Tested with grpcio 1.60 and 1.85.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import grpc
from grpc import _channel, _server

from clew._context import current
from clew._patch import patch, unpatch
from clew.integrations import _rpc, grpc_aio

if TYPE_CHECKING:
    from clew._span import Span

_BLOCKING = (_channel._UnaryUnaryMultiCallable, _channel._StreamUnaryMultiCallable)
_STREAMING = (
    _channel._UnaryStreamMultiCallable,
    _channel._SingleThreadedUnaryStreamMultiCallable,
    _channel._StreamStreamMultiCallable,
)
_READERS = (_channel._MultiThreadedRendezvous, _channel._SingleThreadedRendezvous)


def install() -> None:
    """Trace every channel of this process, and servers made from now on; those of ``grpc.aio``, too."""
    for blocking in _BLOCKING:
        patch(blocking, "__call__", _around_blocking)
        patch(blocking, "with_call", _around_blocking)
        patch(blocking, "future", _around_streaming)
    for streaming in _STREAMING:
        patch(streaming, "__call__", _around_streaming)
    for reader in _READERS:
        patch(reader, "_next", _around_next)
    patch(_server, "create_server", _around_create_server)
    grpc_aio.install()


def uninstall() -> None:
    """Undo ``install``. A server that was made meanwhile stays traced."""
    grpc_aio.uninstall()
    unpatch(_server, "create_server")
    for reader in _READERS:
        unpatch(reader, "_next")
    for streaming in _STREAMING:
        unpatch(streaming, "__call__")
    for blocking in _BLOCKING:
        for name in ("future", "with_call", "__call__"):
            unpatch(blocking, name)


# The channel's side.


def _around_blocking(original: Any) -> Any:
    def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return _call(original, self, args, kwargs)

    return call


def _call(original: Any, callable_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    span, messages, args, kwargs = _start(callable_, args, kwargs)
    try:
        result = original(callable_, *args, **kwargs)
    except grpc.RpcError as error:
        status, details = _status_of(error)
        _rpc.finish_client(span, status, details, messages)
        raise
    except BaseException as error:
        span.set_error(error)
        span.finish()
        raise
    if messages is not None:
        messages.note_received()
    _rpc.finish_client(span, "OK", None, messages)
    return result


def _around_streaming(original: Any) -> Any:
    def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return _begin(original, self, args, kwargs)

    return call


def _begin(original: Any, callable_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Begin a call that goes on by itself; its span ends with it."""
    span, messages, args, kwargs = _start(callable_, args, kwargs)
    previous = span.previous
    try:
        call = original(callable_, *args, **kwargs)
    except BaseException as error:
        span.set_error(error)
        span.finish()
        raise
    current.set(previous)
    stream = None
    if isinstance(callable_, _STREAMING):
        stream = _streams[call] = _rpc.ClientStream(span, messages or _one_sent())
    _finish_with(call, span, stream, messages)
    return call


def _start(
    callable_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Span, _rpc.Messages | None, tuple[Any, ...], dict[str, Any]]:
    """Start the span of a call and put it into the arguments: the third is the metadata, the first the request(s)."""
    span = _rpc.start_client(callable_._method, callable_._channel.target())
    given = list(args)
    if len(given) > 2:
        given[2] = _rpc.with_trace(given[2], span)
    else:
        kwargs["metadata"] = _rpc.with_trace(kwargs.get("metadata"), span)
    messages = None
    if isinstance(callable_, (_channel._StreamUnaryMultiCallable, _channel._StreamStreamMultiCallable)):
        messages = _rpc.Messages()
        if given:
            given[0] = _rpc.Steps(given[0], span, messages.note_sent)
        elif "request_iterator" in kwargs:
            kwargs["request_iterator"] = _rpc.Steps(kwargs["request_iterator"], span, messages.note_sent)
    return span, messages, tuple(given), kwargs


def _one_sent() -> _rpc.Messages:
    messages = _rpc.Messages()
    messages.note_sent()
    return messages


# Calls whose messages are counted as they are read: nothing of ours hangs on them.
_streams: WeakKeyDictionary[Any, _rpc.ClientStream] = WeakKeyDictionary()


def _around_next(original: Any) -> Any:
    def _next(self: Any) -> Any:
        stream = _streams.get(self)
        if stream is None:
            return original(self)
        received = False
        stream.begin_read()
        try:
            message = original(self)
            received = True
        finally:
            stream.end_read(received)
        return message

    return _next


def _finish_with(call: Any, span: Span, stream: _rpc.ClientStream | None, messages: _rpc.Messages | None) -> None:
    """End the span when the call has its status, in whichever thread that is noticed."""

    def finish() -> None:
        status, details = _status_of(call)
        if stream is not None:
            stream.end(status, details)
            return
        if messages is not None and status == "OK":
            messages.note_received()
        _rpc.finish_client(span, status, details, messages)

    try:
        if not call.add_callback(finish):
            finish()
    except NotImplementedError:  # of single-threaded streams: nobody is there to notice
        span.finish()


def _status_of(call: Any) -> tuple[str, str | None]:
    """Return status and details of an ended call, or of an error, of which not every one has a status."""
    try:
        return call.code().name, call.details()
    except Exception:  # noqa: BLE001 - errors of the user's own interceptors may derive from RpcError and say nothing
        return "UNKNOWN", None


# The server's side.


def _around_create_server(original: Any) -> Any:
    def create_server(thread_pool: Any, handlers: Any, interceptors: Any, *args: Any, **kwargs: Any) -> Any:
        return original(thread_pool, handlers, (_Interceptor(), *(interceptors or ())), *args, **kwargs)

    return create_server


class _Interceptor(grpc.ServerInterceptor):  # type: ignore[misc]
    """Starts the span before other interceptors run; the handler takes it up again, perhaps in another thread."""

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        span = _rpc.start_server(details.method, details.invocation_metadata or ())
        previous = span.previous
        call = _rpc.ServerCall(span)
        try:
            handler = continuation(details)
        except BaseException as error:
            call.finish("UNKNOWN", None, error)
            raise
        finally:
            current.set(previous)
        if handler is None:
            call.finish("UNIMPLEMENTED", "there is no such method")
            return None
        return _inside(call, handler)


def _inside(call: _rpc.ServerCall, handler: Any) -> Any:
    """Return a handler that does what this one does, inside the call's span."""
    name = f"{'stream' if handler.request_streaming else 'unary'}_{'stream' if handler.response_streaming else 'unary'}"
    if name != "unary_unary":
        call.messages = _rpc.Messages()
    run = (_rpc.streaming if handler.response_streaming else _rpc.answering)(call, getattr(handler, name), _leave)
    make = getattr(grpc, f"{name}_rpc_method_handler")
    return make(run, handler.request_deserializer, handler.response_serializer)


def _leave(call: _rpc.ServerCall, context: Any, error: BaseException | None = None) -> None:
    """End the span by what the handler left behind."""
    status = _status_name(context.code())
    if status is None and not context.is_active():
        remaining = context.time_remaining()
        status = "DEADLINE_EXCEEDED" if remaining is not None and remaining <= 0 else "CANCELLED"
    if error is not None and status is not None and type(error) is Exception and not error.args:
        error = None  # how abort() leaves the handler: the status says it all
    details = context.details()
    if isinstance(details, bytes):
        details = details.decode("utf-8", "replace")
    call.finish(status or ("UNKNOWN" if error is not None else "OK"), details, error)


def _status_name(code: Any) -> str | None:
    """Return the name of a status, which may be set as a number; None of one that nobody has set."""
    if code is None or isinstance(code, grpc.StatusCode):
        return code.name if code is not None else None
    return next((status.name for status in grpc.StatusCode if status.value[0] == code), "UNKNOWN")
