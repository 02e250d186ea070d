"""gRPC by grpcio, with asyncio: ``grpc.aio``. ``grpc`` turns it on and off.

Hooked, at the channel's side: the four classes of calls (``UnaryUnaryCall`` and its kin) where one is made, below all
interceptors. At the server's side: ``grpc.aio.server()`` gets one more interceptor, before all others. Handlers stay
what they were: coroutines, asynchronous generators, or plain functions, which run in the server's thread pool.

Spans as in ``grpc``. Messages that a handler reads and writes by ``context.read()`` and ``context.write()`` count, too.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import grpc
from grpc import aio
from grpc.aio import _call, _server

from clew._context import current
from clew._patch import patch, unpatch
from clew.integrations import _rpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from clew._span import Span

_CALLS = (_call.UnaryUnaryCall, _call.UnaryStreamCall, _call.StreamUnaryCall, _call.StreamStreamCall)
_STATUS_NAMES = {status.value[0]: status.name for status in grpc.StatusCode}


def install() -> None:
    """Trace every channel of this process, and servers made from now on."""
    for call in _CALLS:
        patch(call, "__init__", _around_init)
    patch(_call._StreamResponseMixin, "_read", _around_read)
    patch(_call._StreamRequestMixin, "_write", _around_write)
    patch(_server.Server, "__init__", _around_server_init)


def uninstall() -> None:
    """Undo ``install``. A server that was made meanwhile stays traced."""
    unpatch(_server.Server, "__init__")
    unpatch(_call._StreamRequestMixin, "_write")
    unpatch(_call._StreamResponseMixin, "_read")
    for call in _CALLS:
        unpatch(call, "__init__")


# The channel's side.

# Calls whose messages are counted as they pass: nothing of ours hangs on them.
_streams: WeakKeyDictionary[Any, _rpc.ClientStream] = WeakKeyDictionary()


def _around_init(original: Any) -> Any:
    def __init__(  # noqa: N807 - it stands in the place of the original
        self: Any,
        request: Any,
        deadline: Any,
        metadata: Any,
        credentials: Any,
        wait_for_ready: Any,
        channel: Any,
        method: Any,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        span = _rpc.start_client(method, getattr(channel, "target", b""))
        traced = aio.Metadata(*_rpc.with_trace(metadata, span))
        previous = span.previous
        try:
            original(self, request, deadline, traced, credentials, wait_for_ready, channel, method, *args, **kwargs)
        except BaseException as error:
            span.set_error(error)
            span.finish()
            raise
        current.set(previous)
        _follow(self, span)

    return __init__


def _follow(call: Any, span: Span) -> None:
    """Count the messages of a stream, and end the span when the call has its status."""
    stream = None
    if not isinstance(call, _call.UnaryUnaryCall):
        stream = _streams[call] = _rpc.ClientStream(span, _rpc.Messages())
        if isinstance(call, _call.UnaryStreamCall):
            stream.messages.note_sent()

    def finish(ended: Any) -> None:
        status, details = _status_of(ended)
        if stream is None:
            _rpc.finish_client(span, status, details)
            return
        if status == "OK" and isinstance(ended, _call.StreamUnaryCall):
            stream.messages.note_received()
        stream.end(status, details)

    call.add_done_callback(finish)


def _status_of(call: Any) -> tuple[str, str | None]:
    """Return status and details of a call that is done, without waiting: the status is there."""
    pending = call._cython_call.status()
    try:
        pending.send(None)
    except StopIteration as done:
        return _STATUS_NAMES.get(done.value.code(), "UNKNOWN"), done.value.details()
    except Exception:  # noqa: BLE001 - the boundary to the library: no status is no reason to raise into its loop
        return "UNKNOWN", None
    pending.close()
    return "UNKNOWN", None


def _around_read(original: Any) -> Any:
    async def _read(self: Any) -> Any:
        stream = _streams.get(self)
        if stream is None:
            return await original(self)
        received = False
        stream.begin_read()
        try:
            message = await original(self)
            received = message is not aio.EOF
        finally:
            stream.end_read(received)
        return message

    return _read


def _around_write(original: Any) -> Any:
    async def _write(self: Any, request: Any) -> None:
        await original(self, request)
        stream = _streams.get(self)
        if stream is not None:
            stream.messages.note_sent()

    return _write


# The server's side.


def _around_server_init(original: Any) -> Any:
    def __init__(self: Any, thread_pool: Any, handlers: Any, interceptors: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        original(self, thread_pool, handlers, (_Interceptor(), *(interceptors or ())), *args, **kwargs)

    return __init__


class _Interceptor(aio.ServerInterceptor):  # type: ignore[misc]
    """Starts the span before other interceptors run; the handler takes it up again."""

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        span = _rpc.start_server(details.method, details.invocation_metadata or ())
        previous = span.previous
        call = _rpc.ServerCall(span)
        try:
            handler = await continuation(details)
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
    """Return a handler of the same kind that does what this one does, inside the call's span."""
    name = f"{'stream' if handler.request_streaming else 'unary'}_{'stream' if handler.response_streaming else 'unary'}"
    if name != "unary_unary":
        call.messages = _rpc.Messages()
    run = _like(call, getattr(handler, name), handler.response_streaming)
    make = getattr(grpc, f"{name}_rpc_method_handler")
    return make(run, handler.request_deserializer, handler.response_serializer)


def _like(call: _rpc.ServerCall, behavior: Any, streams: bool) -> Any:
    if inspect.isasyncgenfunction(behavior):
        return _generating(call, behavior)
    if inspect.iscoroutinefunction(behavior):
        return _awaited(call, behavior, streams)
    return _plain(call, behavior, streams)


def _awaited(call: _rpc.ServerCall, behavior: Any, streams: bool) -> Any:
    async def run(request: Any, context: Any) -> Any:
        previous = call.enter(context.peer())
        try:
            watched = context if call.messages is None else _Context(context, call)
            response = await behavior(_counted(call, request), watched)
        except BaseException as error:
            _leave(call, context, error)
            raise
        else:
            if not streams:
                call.note_sent()
            _leave(call, context)
            return response
        finally:
            current.set(previous)

    return run


def _generating(call: _rpc.ServerCall, behavior: Any) -> Any:
    async def run(request: Any, context: Any) -> AsyncIterator[Any]:
        previous = call.enter(context.peer())
        try:
            # Read by the server's own coroutine, in a context made for this call: the span may stay active.
            async for response in behavior(_counted(call, request), context):
                call.note_sent()
                yield response
        except GeneratorExit:
            _leave(call, context)
            raise
        except BaseException as error:
            _leave(call, context, error)
            raise
        else:
            _leave(call, context)
        finally:
            current.set(previous)

    return run


def _counted(call: _rpc.ServerCall, request: Any) -> Any:
    """Count what comes in: one message, or each of a stream."""
    if call.messages is not None and hasattr(request, "__aiter__"):
        return _received(call, request)
    return _rpc.counted(call, request)


async def _received(call: _rpc.ServerCall, requests: Any) -> AsyncIterator[Any]:
    async for request in requests:
        call.note_received()
        yield request


def _plain(call: _rpc.ServerCall, behavior: Any, streams: bool) -> Any:
    """Give a plain handler a context that remembers the status: the library's own one for it cannot be asked."""
    inside = (_rpc.streaming if streams else _rpc.answering)(call, behavior, _leave)

    def run(request: Any, context: Any) -> Any:
        return inside(request, context if hasattr(context, "code") else _PlainContext(context))

    return run


class _PlainContext:
    """The context of a plain handler; all that is not about the status is the original's."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._code: Any = None
        self._details = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def code(self) -> Any:
        """Return the status that was set, if any."""
        return self._code

    def details(self) -> str:
        """Return the details that were set."""
        return self._details

    def set_code(self, code: Any) -> None:
        """Set the status."""
        self._code = code
        self._inner.set_code(code)

    def set_details(self, details: str) -> None:
        """Set its details."""
        self._details = details
        self._inner.set_details(details)

    def abort(self, code: Any, details: str = "", trailing_metadata: Any = ()) -> None:
        """End the call with a status."""
        self._code, self._details = code, details
        self._inner.abort(code, details, trailing_metadata)


class _Context:
    """A call's context that counts what its handler reads and writes; all else is the original's."""

    def __init__(self, inner: Any, call: _rpc.ServerCall) -> None:
        self._inner = inner
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def read(self) -> Any:
        """Read a message."""
        message = await self._inner.read()
        if message is not aio.EOF:
            self._call.note_received()
        return message

    async def write(self, message: Any) -> None:
        """Write a message."""
        await self._inner.write(message)
        self._call.note_sent()


def _leave(call: _rpc.ServerCall, context: Any, error: BaseException | None = None) -> None:
    """End the span by what the handler left behind."""
    code = context.code()
    status = _STATUS_NAMES.get(getattr(code, "value", (code,))[0], "UNKNOWN") if code else None
    if status is None and (isinstance(error, asyncio.CancelledError) or _given_up(context)):
        status = "DEADLINE_EXCEEDED" if _is_late(context) else "CANCELLED"
    if isinstance(error, (aio.AbortError, asyncio.CancelledError)):
        error = None  # the status says it all
    call.finish(status or ("UNKNOWN" if error is not None else "OK"), context.details() or None, error)


def _given_up(context: Any) -> bool:
    """Tell whether nobody waits for the answer any more, as far as the context knows."""
    return _is_late(context) or bool(getattr(context, "cancelled", bool)())


def _is_late(context: Any) -> bool:
    remaining = context.time_remaining()
    return remaining is not None and remaining <= 0
