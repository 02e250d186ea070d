"""The httpx library: every ``Client`` and ``AsyncClient``, and so ``httpx.get`` and its kin.

Hooked: ``_send_single_request`` of both classes, the step between redirects and the transport: each hop is a span of
its own, and every transport is seen, also ``ASGITransport`` and one of the application's own. By hand, without
``clew.instrument()``: ``TraceClient`` and ``AsyncTraceClient``; with both there still is one span.

Span: ``CLIENT``, ``GET``, tags by ``_http``. It is active until the headers are here and ends when the body has been
read or the response is closed, streamed ones included. A response that is dropped without either ends it with
``clew.unclosed``.

Tested with httpx 0.28.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx

from clew._context import current
from clew._patch import patch, unpatch
from clew.integrations import _http
from clew.integrations._bodies import finish_unclosed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from clew._span import Span


class TraceClient(httpx.Client):
    """An ``httpx.Client`` that traces its requests."""

    def _send_single_request(self, request: httpx.Request) -> httpx.Response:
        return _send(super()._send_single_request, request)


class AsyncTraceClient(httpx.AsyncClient):
    """An ``httpx.AsyncClient`` that traces its requests."""

    async def _send_single_request(self, request: httpx.Request) -> httpx.Response:
        return await _send_async(super()._send_single_request, request)


def install() -> None:
    """Trace every client of this process, also those that exist already."""
    patch(httpx.Client, "_send_single_request", _around_send)
    patch(httpx.AsyncClient, "_send_single_request", _around_send_async)


def uninstall() -> None:
    """Undo ``install``."""
    unpatch(httpx.Client, "_send_single_request")
    unpatch(httpx.AsyncClient, "_send_single_request")


def _around_send(original: Any) -> Any:
    def send(self: httpx.Client, request: httpx.Request) -> httpx.Response:
        bound = original.__get__(self)
        return bound(request) if isinstance(self, TraceClient) else _send(bound, request)

    return send


def _around_send_async(original: Any) -> Any:
    async def send(self: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
        bound = original.__get__(self)
        if isinstance(self, AsyncTraceClient):
            return await bound(request)  # type: ignore[no-any-return]
        return await _send_async(bound, request)

    return send


def _send(send: Callable[[httpx.Request], httpx.Response], request: httpx.Request) -> httpx.Response:
    span = _start(request)
    previous = span.previous
    try:
        response = send(request)
    except BaseException as error:
        span.set_error(error)
        span.finish()
        raise
    _follow(span, response, _Stream)
    current.set(previous)
    return response


async def _send_async(
    send: Callable[[httpx.Request], Awaitable[httpx.Response]], request: httpx.Request
) -> httpx.Response:
    span = _start(request)
    previous = span.previous
    try:
        response = await send(request)
    except BaseException as error:
        span.set_error(error)
        span.finish()
        raise
    _follow(span, response, _AsyncStream)
    current.set(previous)
    return response


def _start(request: httpx.Request) -> Span:
    span = _http.start_client(request.method, str(request.url))
    headers = request.headers
    for name, value in _http.inject(span).items():
        headers[name] = value
    return span


def _follow(span: Span, response: httpx.Response, stream_type: type[_Stream] | type[_AsyncStream]) -> None:
    """End the span with the body; at once where the body is here, as it is from a transport that has it in memory."""
    _http.set_client_status(span, response.status_code)
    if response.is_closed:
        span.finish()
    else:
        response.stream = stream_type(response.stream, span)


class _Stream(httpx.SyncByteStream):
    def __init__(self, stream: Any, span: Span) -> None:
        self._stream = stream
        self._span = span

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._stream
        except GeneratorExit:
            raise
        except BaseException as error:  # a cancelled reader's, too
            self._span.set_error(error)
            raise

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._span.finish()

    def __del__(self) -> None:
        finish_unclosed(self._span)


class _AsyncStream(httpx.AsyncByteStream):
    def __init__(self, stream: Any, span: Span) -> None:
        self._stream = stream
        self._span = span

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._stream:
                yield chunk
        except GeneratorExit:
            raise
        except BaseException as error:  # a cancelled reader's, too
            self._span.set_error(error)
            raise

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._span.finish()

    def __del__(self) -> None:
        finish_unclosed(self._span)
