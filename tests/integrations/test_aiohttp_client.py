"""aiohttp's client: patched sessions, a trace config by hand, both at once."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

import clew
from clew.integrations.aiohttp import trace_config
from integrations.kit_client import ClientKit, callee

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from clew.testing import MemorySender


class _Aiohttp(ClientKit):
    connect_error = "aiohttp.client_exceptions.ClientConnectorError"
    spans_of_redirect = 1  # aiohttp follows them with the headers it was given

    def options(self) -> dict[str, Any]:
        return {}

    def client(self) -> Callable[..., int]:
        async def get(url: str, headers: dict[str, str] | None = None) -> int:
            async with (
                aiohttp.ClientSession(**self.options()) as session,
                session.get(url, headers=headers) as response,
            ):
                await response.read()
                return response.status

        return lambda *args: asyncio.run(get(*args))

    def objects(self, url: str) -> list[object]:
        async def get() -> list[object]:
            async with aiohttp.ClientSession(**self.options()) as session:
                try:
                    async with session.get(url) as response:
                        await response.read()
                        return [response, *response.history]
                except aiohttp.ClientError as error:
                    return [error]

        return asyncio.run(get())


class TestSession(_Aiohttp):
    names = ("aiohttp",)


class TestTraceConfig(_Aiohttp):
    names = ()
    traces_itself = True

    def options(self) -> dict[str, Any]:
        return {"trace_configs": [trace_config()]}


class TestTraceConfigInstrumented(TestTraceConfig):
    names = ("aiohttp",)


@pytest.fixture(params=["instrumented", "trace_config"])
def session_options(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """What a session is made with, in the two ways of tracing."""
    if request.param == "instrumented":
        clew.instrument("aiohttp")
    yield {} if request.param == "instrumented" else {"trace_configs": [trace_config()]}
    clew.uninstrument()


@contextlib.asynccontextmanager
async def slow_server(more: asyncio.Event) -> AsyncIterator[TestServer]:
    """Serve a response whose end waits for ``more``."""

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun")
        await more.wait()
        return response

    app = web.Application()
    app.router.add_get("/", slow)
    async with TestServer(app) as server:
        yield server


class TestStreams:
    @pytest.mark.parametrize("end", ["read", "release", "close"])
    async def test_span_of_a_response_ends_with_its_body(
        self, clew_spans: MemorySender, session_options: dict[str, Any], end: str
    ) -> None:
        """Or when it is released or closed; until then the caller's span is the active one."""
        more = asyncio.Event()
        async with slow_server(more) as server, aiohttp.ClientSession(**session_options) as session:
            with clew.start_span("work") as work:
                response = await session.get(server.make_url("/"))
                assert work.span_id == clew.get_trace_context().span_id  # type: ignore[union-attr]
                assert [] == clients(clew_spans)
                if end == "read":
                    more.set()
                    assert b"begun" == await response.read()
                else:
                    getattr(response, end)()
                (span,) = clients(clew_spans)
            more.set()
        assert ("200", False, False) == (
            span["tags"]["http.status_code"],
            "clew.unclosed" in span["tags"],
            "error" in span["tags"],
        )

    @pytest.mark.filterwarnings("ignore:Exception ignored in")  # aiohttp's own warning of the connection
    async def test_response_that_nobody_closes_is_reported(
        self, clew_spans: MemorySender, session_options: dict[str, Any]
    ) -> None:
        """When its connection lets go of it; the span says so."""
        more = asyncio.Event()
        async with slow_server(more) as server:
            async with aiohttp.ClientSession(**session_options) as session:
                await session.get(server.make_url("/"))
                assert [] == clients(clew_spans)
            more.set()
        gc.collect()
        (span,) = clients(clew_spans)
        assert ("200", "true") == (span["tags"]["http.status_code"], span["tags"]["clew.unclosed"])

    async def test_body_that_breaks_off_in_the_caller_s_hands_is_an_error(
        self, clew_spans: MemorySender, session_options: dict[str, Any]
    ) -> None:
        """Read piece by piece."""
        with callee() as server:
            async with aiohttp.ClientSession(**session_options) as session, session.get(server.url("/broken")) as got:
                with pytest.raises(aiohttp.ClientPayloadError):
                    async for _ in got.content.iter_any():
                        pass
        (span,) = clients(clew_spans)
        assert ("200", "aiohttp.client_exceptions.ClientPayloadError") == (
            span["tags"]["http.status_code"],
            span["tags"]["error.type"],
        )

    @pytest.mark.parametrize("way", ["read", "text", "pieces", "line", "sock_read", "wait_for", "cancel"])
    async def test_body_that_takes_too_long_is_an_error(
        self, clew_spans: MemorySender, session_options: dict[str, Any], way: str
    ) -> None:
        """By the session's time-outs or the caller's own, in whatever way it is read."""
        more = asyncio.Event()
        limits = aiohttp.ClientTimeout(None, sock_read=0.2) if way == "sock_read" else aiohttp.ClientTimeout(total=0.2)
        if way in ("wait_for", "cancel"):
            limits = aiohttp.ClientTimeout(total=None)

        async def read(response: aiohttp.ClientResponse) -> None:
            if way == "pieces":
                async for _ in response.content.iter_any():
                    pass
            elif way == "line":
                await response.content.readline()
            elif way == "wait_for":
                await asyncio.wait_for(response.read(), 0.2)
            elif way == "cancel":
                asyncio.get_running_loop().call_later(0.2, asyncio.current_task().cancel)  # type: ignore[union-attr]
                await response.content.read()
            else:
                await getattr(response, "text" if way == "text" else "read")()

        async with slow_server(more) as server, aiohttp.ClientSession(**session_options, timeout=limits) as session:
            with pytest.raises((asyncio.TimeoutError, asyncio.CancelledError)):
                async with session.get(server.make_url("/")) as response:
                    await read(response)
            more.set()
        (span,) = clients(clew_spans)
        assert "200" == span["tags"]["http.status_code"]
        assert span["tags"]["error.type"].rpartition(".")[2] in ("TimeoutError", "SocketTimeoutError", "CancelledError")

    async def test_time_out_that_the_caller_catches_is_an_error(
        self, clew_spans: MemorySender, session_options: dict[str, Any]
    ) -> None:
        """Also where the response is released later."""
        more = asyncio.Event()
        limits = aiohttp.ClientTimeout(total=0.2)
        async with slow_server(more) as server, aiohttp.ClientSession(**session_options, timeout=limits) as session:
            async with session.get(server.make_url("/")) as response:
                with pytest.raises(asyncio.TimeoutError):
                    await response.content.read()
            more.set()
        (span,) = clients(clew_spans)
        assert "TimeoutError" == span["tags"]["error.type"].rpartition(".")[2]

    async def test_failure_of_the_caller_is_not_the_call_s(
        self, clew_spans: MemorySender, session_options: dict[str, Any]
    ) -> None:
        """What the caller raises while the body is still to come has nothing to do with it."""
        more = asyncio.Event()
        async with slow_server(more) as server, aiohttp.ClientSession(**session_options) as session:
            with pytest.raises(TimeoutError):
                async with session.get(server.make_url("/")):
                    raise TimeoutError
            more.set()
        (span,) = clients(clew_spans)
        assert "error" not in span["tags"]

    async def test_status_that_is_raised_shows_no_secret(
        self, clew_spans: MemorySender, session_options: dict[str, Any]
    ) -> None:
        """`raise_for_status=True` puts the URL into the message."""
        with callee() as server:
            async with aiohttp.ClientSession(**session_options, raise_for_status=True) as session:
                with pytest.raises(aiohttp.ClientResponseError, match="s3cret"):
                    await session.get(server.url("/missing?token=s3cret"))
        (span,) = clients(clew_spans)
        assert "404" == span["tags"]["http.status_code"]
        assert "s3cret" not in json.dumps(span)


def clients(spans: MemorySender) -> list[dict[str, Any]]:
    return [span for span in spans.spans() if span.get("kind") == "CLIENT"]


class TestBaseUrl:
    async def test_relative_url_is_shown_whole(self, clew_spans: Any) -> None:
        """The span names the host that a session's base URL brings in."""
        clew.instrument("aiohttp")
        try:
            with callee() as server:
                async with aiohttp.ClientSession(server.url("/")) as session, session.get("/x?q=1"):
                    pass
        finally:
            clew.uninstrument()
        assert server.url("/x") == clew_spans.spans()[0]["tags"]["http.url"]
