"""httpx: patched clients, the two tracing clients, both at once."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from typing import TYPE_CHECKING, Any

import httpx
import pytest

import clew
from clew.integrations.httpx import AsyncTraceClient, TraceClient
from integrations.kit_client import ClientKit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from clew.testing import MemorySender
    from integrations.kit_client import Callee


def _parts(get: Callable[[], httpx.Response]) -> list[object]:
    try:
        response = get()
    except httpx.HTTPError as error:
        return [error, error.request]
    return [response, response.request, *response.history]


class _Sync(ClientKit):
    connect_error = "httpx.ConnectError"
    type: Any = httpx.Client

    def client(self) -> Callable[..., int]:
        def get(url: str, headers: dict[str, str] | None = None) -> int:
            with self.type(follow_redirects=True, trust_env=False) as client:
                return int(client.get(url, headers=headers).status_code)

        return get

    def objects(self, url: str) -> list[object]:
        with self.type(follow_redirects=True, trust_env=False) as client:
            return _parts(lambda: client.get(url))


class TestClient(_Sync):
    names = ("httpx",)


class TestTraceClient(_Sync):
    names = ()
    type = TraceClient
    traces_itself = True


class TestTraceClientInstrumented(_Sync):
    names = ("httpx",)
    type = TraceClient
    traces_itself = True


class _Async(ClientKit):
    connect_error = "httpx.ConnectError"
    type: Any = httpx.AsyncClient

    def client(self) -> Callable[..., int]:
        async def get(url: str, headers: dict[str, str] | None = None) -> int:
            async with self.type(follow_redirects=True, trust_env=False) as client:
                return int((await client.get(url, headers=headers)).status_code)

        return lambda *args: asyncio.run(get(*args))

    def objects(self, url: str) -> list[object]:
        async def get() -> httpx.Response:
            async with self.type(follow_redirects=True, trust_env=False) as client:
                return await client.get(url)

        return _parts(lambda: asyncio.run(get()))


class TestAsyncClient(_Async):
    names = ("httpx",)


class TestAsyncTraceClient(_Async):
    names = ()
    type = AsyncTraceClient
    traces_itself = True


class TestStreams:
    def test_span_of_a_stream_ends_with_it(self, clew_spans: MemorySender) -> None:
        """While a body is read its span is open, and the caller's own span is the active one."""

        class Body(httpx.SyncByteStream):
            def __iter__(self) -> Iterator[bytes]:
                yield b"1"
                yield b"2"

        transport = httpx.MockTransport(lambda request: httpx.Response(200, stream=Body()))
        client = TraceClient(transport=transport)
        with client, clew.start_span("work") as work, client.stream("GET", "http://there/x") as response:
            body = response.iter_raw()
            assert b"1" == next(body)
            assert [] == clew_spans.spans()
            assert work.span_id == clew.get_trace_context().span_id  # type: ignore[union-attr]
            assert [b"2"] == list(body)
        assert ["GET", "work"] == [span["name"] for span in clew_spans.spans()]
        assert {"serviceName": "there", "port": 80} == clew_spans.spans()[0]["remoteEndpoint"]

    @pytest.mark.parametrize("type", [TraceClient, AsyncTraceClient])
    async def test_stream_that_nobody_closes_is_reported(self, clew_spans: MemorySender, type: Any) -> None:
        """When the response is dropped; the span says so. Nothing comes back to life."""

        class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
            def __iter__(self) -> Iterator[bytes]:
                yield b"1"

            async def __aiter__(self) -> AsyncIterator[bytes]:
                yield b"1"

        client = type(transport=httpx.MockTransport(lambda request: httpx.Response(200, stream=Body())))
        with clew.start_span("work") as work:
            sent = client.send(client.build_request("GET", "http://there/x"), stream=True)
            response = await sent if type is AsyncTraceClient else sent
            gone = weakref.ref(response)
            del sent, response
            gc.collect()
            assert gone() is None
            assert work.span_id == clew.get_trace_context().span_id  # type: ignore[union-attr]
        span = clew_spans.spans()[0]
        assert ("200", "true") == (span["tags"]["http.status_code"], span["tags"]["clew.unclosed"])

    async def test_cancelled_reader_is_an_error(self, clew_spans: MemorySender) -> None:
        """Whoever gives up in the middle of a body has not got it."""
        reading = asyncio.Event()

        class Body(httpx.AsyncByteStream):
            async def __aiter__(self) -> AsyncIterator[bytes]:
                yield b"1"
                reading.set()
                await asyncio.Event().wait()

        async with AsyncTraceClient(
            transport=httpx.MockTransport(lambda request: httpx.Response(200, stream=Body()))
        ) as client:
            task = asyncio.create_task(client.get("http://there/x"))
            await reading.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert "CancelledError" in clew_spans.spans()[0]["tags"]["error.type"]

    async def test_error_in_a_stream_is_on_the_span(self, clew_spans: MemorySender) -> None:
        """A body that breaks off marks the span as failed."""

        class Body(httpx.AsyncByteStream):
            async def __aiter__(self) -> AsyncIterator[bytes]:
                yield b"1"
                raise httpx.ReadError("cut")

        transport = httpx.MockTransport(lambda request: httpx.Response(200, stream=Body()))
        async with AsyncTraceClient(transport=transport) as client:
            with pytest.raises(httpx.ReadError):
                await client.get("http://there/x")
        assert ("httpx.ReadError", "200") == (
            clew_spans.spans()[0]["tags"]["error.type"],
            clew_spans.spans()[0]["tags"]["http.status_code"],
        )

    def test_body_in_memory_ends_the_span_at_once(self, clew_spans: MemorySender) -> None:
        """A transport that answers from memory leaves no span open."""
        transport = httpx.MockTransport(lambda request: httpx.Response(200, json={}))
        with TraceClient(transport=transport) as client:
            assert {} == client.get("http://there/x").json()
        assert 1 == len(clew_spans.spans())

    async def test_gathered_calls_are_siblings(self, clew_spans: MemorySender, caller: Callee) -> None:
        """Calls made at the same time are all children of the span that makes them."""
        async with AsyncTraceClient(trust_env=False) as client:
            with clew.start_span("work") as work:
                await asyncio.gather(*(client.get(caller.url(f"/{number}")) for number in range(5)))
        calls = [span for span in clew_spans.spans() if span.get("kind") == "CLIENT"]
        assert [work.span_id] * 5 == [span["parentId"] for span in calls]

    @pytest.fixture
    def caller(self) -> Iterator[Callee]:
        from integrations.kit_client import callee

        with contextlib.ExitStack() as stack:
            yield stack.enter_context(callee())
