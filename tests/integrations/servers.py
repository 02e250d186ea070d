"""Real servers in threads of the test process, so that their spans and log lines can be seen."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

import uvicorn
from aiohttp import web
from werkzeug.serving import make_server

from integrations.kit_common import DEADLINE_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def on_uvicorn(app: Any, http: str = "h11", ws: str = "none") -> Iterator[int]:
    """Serve an ASGI app; its log lines go to the loggers as the test has set them up."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=http, ws=ws, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=asyncio.run, args=(server.serve([listening]),))
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(DEADLINE_S)
        listening.close()


@contextlib.contextmanager
def on_werkzeug(app: Any) -> Iterator[int]:
    """Serve a WSGI app on the server of Flask's development mode."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join(DEADLINE_S)
        server.server_close()


@contextlib.contextmanager
def on_aiohttp(app: web.Application) -> Iterator[int]:
    """Serve an aiohttp app on a loop of its own."""
    started = threading.Event()
    state: dict[str, Any] = {}

    async def serve() -> None:
        runner = web.AppRunner(app, access_log_format="%r", shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        state.update(port=runner.addresses[0][1], loop=asyncio.get_running_loop(), stop=asyncio.Event())
        started.set()
        await state["stop"].wait()
        await runner.cleanup()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(DEADLINE_S)
    try:
        yield state["port"]
    finally:
        state["loop"].call_soon_threadsafe(state["stop"].set)
        thread.join(DEADLINE_S)
