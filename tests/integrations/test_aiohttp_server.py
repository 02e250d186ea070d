"""aiohttp's own server."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web

import clew
from clew.integrations.aiohttp import middleware
from integrations.apps import aiohttp_app
from integrations.kit_common import fetch, wait_until
from integrations.kit_server import ServerKit
from integrations.servers import on_aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from clew.testing import MemorySender


class TestAiohttp(ServerKit):
    access_logger = "aiohttp.access"
    error_logger = "aiohttp.server"

    @contextlib.contextmanager
    def serve(self, mode: str) -> Iterator[int]:
        app = aiohttp_app()
        if mode != "instrumented":
            app.middlewares.append(middleware)
        if mode != "explicit":
            clew.instrument("aiohttp")
        with on_aiohttp(app) as port:
            yield port


@pytest.fixture(params=["instrumented", "middleware"])
def app(request: pytest.FixtureRequest) -> Iterator[web.Application]:
    """An application, traced in one of two ways."""
    if request.param == "instrumented":
        clew.instrument("aiohttp")
    yield web.Application(middlewares=[] if request.param == "instrumented" else [middleware])
    clew.uninstrument()


async def test_websocket_is_named_as_on_every_server(clew_spans: MemorySender, app: web.Application) -> None:
    """`WS` and its route; one that is refused, too; and on the caller's side the handshake."""

    async def chat(request: web.Request) -> web.StreamResponse:
        if request.match_info["room"] == "closed":
            raise web.HTTPForbidden
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.close()
        return socket

    app.router.add_get("/chat/{room}", chat)
    with on_aiohttp(app) as port:
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(f"http://127.0.0.1:{port}/chat/red") as socket:
                await socket.receive()
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await session.ws_connect(f"http://127.0.0.1:{port}/chat/closed")
        wait_until(lambda: 2 == len([1 for span in clew_spans.spans() if span["kind"] == "SERVER"]))
    servers = [span for span in clew_spans.spans() if span["kind"] == "SERVER"]
    assert [("WS /chat/{room}", "101"), ("WS /chat/{room}", "403")] == [
        (span["name"], span["tags"]["http.status_code"]) for span in servers
    ]
    assert all(span["name"] == "WS" for span in clew_spans.spans() if span["kind"] == "CLIENT")


def test_body_that_breaks_off_is_a_failed_request(clew_spans: MemorySender, app: web.Application) -> None:
    """Where aiohttp itself reads it, after the handler."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"begun"
        raise RuntimeError("too late")

    async def stream(request: web.Request) -> web.Response:
        return web.Response(body=pieces())

    app.router.add_get("/stream", stream)
    with on_aiohttp(app) as port:
        fetch(port, "/stream")
        wait_until(lambda: bool(clew_spans.spans()))
    if middleware not in app.middlewares:  # a middleware has ended when the body is read
        assert ("too late", "200") == tuple(clew_spans.spans()[0]["tags"][key] for key in ("error", "http.status_code"))
