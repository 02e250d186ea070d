"""HTTP from the socket to the application: uvicorn, its connections bounded, its signals ours, its end quiet."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from typing import TYPE_CHECKING, Any, Final, cast

import uvicorn
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Generator

    from starlette.types import ASGIApp, Receive, Scope, Send

    from clew.collector.doors.connections import Connections

DRAIN_S: Final = 10  # for requests under way at the end
CANCEL_S: Final = 2  # for those that had to be cut off, to notice

_log = logging.getLogger("clew.collector")


def configured(app: ASGIApp, connections: Connections) -> uvicorn.Config:
    """Return how the application is served."""
    return uvicorn.Config(
        _cut_off_quietly(app),
        http=cast("Any", connections),  # called to make a protocol, as a class would be
        ws="none",  # the doors look at requests only
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_keep_alive=int(connections.limits.idle_s),
        timeout_graceful_shutdown=DRAIN_S,
    )


def _cut_off_quietly(app: ASGIApp) -> ASGIApp:
    """Answer requests that are cut off at the end with 503, so that they are sent again; uvicorn's answer were 500."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            with contextlib.suppress(RuntimeError):  # the answer has begun
                text = "The collector is ending. Send again in a moment.\n"
                await PlainTextResponse(text, 503, {"Retry-After": "5"})(scope, receive, send)

    return served


class Server(uvicorn.Server):
    """uvicorn, except that it leaves the signals to us, tells when it answers, and says in one line what it cut off."""

    def __init__(
        self, app: ASGIApp, connections: Connections, started: Callable[[], None], stopping: Callable[[], None]
    ) -> None:
        super().__init__(configured(app, connections))
        self._connections = connections
        self._started = started
        self._stopping = stopping

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """End at SIGINT and SIGTERM."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        yield

    def _stop(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True
        self._connections.ending = True
        self._stopping()  # event streams would never end by themselves

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then tell."""
        await super().startup(sockets)
        self._started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests end; cut off those that do not. uvicorn would log a traceback for each."""
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
        await super().shutdown(sockets)
        left = [task for task in self.server_state.tasks if not task.done()]
        if left:
            _log.warning("http: %d requests under way did not end in time and were cut off", len(left))
            for task in left:
                task.cancel()
            await asyncio.wait(left, timeout=CANCEL_S)


def run(
    app: ASGIApp,
    connections: Connections,
    listening: list[socket.socket],
    started: Callable[[], None],
    stopping: Callable[[], None],
) -> None:
    """Serve until a signal; ``started`` is called when requests are answered, ``stopping`` at the signal."""
    server = Server(app, connections, started, stopping)
    factory = server.config.get_loop_factory()
    loop = factory() if factory else asyncio.new_event_loop()
    try:
        loop.run_until_complete(server.serve(listening))
    finally:
        loop.close()
