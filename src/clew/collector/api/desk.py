"""Where questions wait their turn: so many under way, so many at work, each for so long, none after its asker left.

A question is answered in steps (the beginning of the answer, then chunk after chunk), each step in one of a few worker
threads. So a reader who is slow holds no thread, long answers and short ones take turns, and memory is that of the
steps at work and of one page a question. The event loop only waits: whatever is asked, it goes on to take spans and to
answer ``/health`` and ``/metrics``, for which no worker is needed.

A question ends early when the asker leaves, when its time is over, or when the collector stops. The one at work is told
by its :class:`~clew.collector.patience.Patience`, and the engine is told to stop its statements, again and again until
the step has ended: a statement may begin at the very moment of the first telling.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import FIRST_COMPLETED
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

from starlette.requests import Request

from clew.collector.api.answers import Reply, reply
from clew.collector.patience import GaveUp, Patience, TooCostly
from clew.collector.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.responses import Response
    from starlette.types import Message, Receive, Scope, Send

    from clew.collector.api.answers import Answer, ErrorResponse
    from clew.collector.query import Query
    from clew.collector.store import SpanStore


T = TypeVar("T")

WORKERS: Final = 4  # as many as the store has handles for reading
UNDER_WAY: Final = 64  # questions that wait, are at work or are being sent; the next one is refused at once
LIMIT_S: Final = 30.0  # until the answer has begun; the command line waits as long
SEND_S: Final = 600.0  # ... and until it has ended
STALLED_S: Final = 30.0  # a reader who takes nothing for so long is gone
_STOP_AGAIN_S: Final = 0.2
_END: Final = b""

_log = logging.getLogger("clew.collector")


class Desk:
    """Answers questions of one store; see the module's docstring. Bound to one event loop."""

    def __init__(self, query: Query, store: SpanStore) -> None:
        self._query = query
        self._store = store
        self._workers = ThreadPoolExecutor(WORKERS, "clew-question")
        self._stopper = ThreadPoolExecutor(1, "clew-stop")
        self._open: set[Asked] = set()
        self._closed = False

    def endpoint(self, answer: Answer, error: ErrorResponse) -> Endpoint:
        """Make an endpoint of a blocking function of query, request and parameters."""
        return Endpoint(self, answer, error)

    def close(self) -> None:
        """End all questions, and refuse new ones. Call in the event loop; idempotent."""
        self._closed = True
        for asked in self._open:
            asked.leave()

    async def answer(self, answer: Answer, error: ErrorResponse, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._closed or len(self._open) >= UNDER_WAY:
            await _busy(error)(scope, receive, send)
            return
        asked = Asked(self._workers, self._stop)
        self._open.add(asked)
        watcher = asyncio.ensure_future(_leave_with(receive, asked))
        try:
            await self._answer(asked, answer, error, scope, send)
        except GaveUp:
            pass  # nobody is there to be told
        finally:
            watcher.cancel()
            self._open.discard(asked)
            asked.leave()

    async def _answer(self, asked: Asked, answer: Answer, error: ErrorResponse, scope: Scope, send: Send) -> None:
        try:
            begun = await asked.step(self._begin, answer, error, Request(scope), asked.patience)
        except TooCostly:  # its turn never came
            begun = Reply(_busy(error), iter(()))
        asked.patience.renew(SEND_S)
        response = begun.response
        start = {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
        await send(start)
        try:
            await _send(send, {"type": "http.response.body", "body": response.body, "more_body": True})
            while chunk := await asked.step(next, begun.rest, _END):
                await _send(send, {"type": "http.response.body", "body": chunk, "more_body": True})
        except (TooCostly, StoreError, asyncio.TimeoutError) as failed:
            # Without the last message the server breaks the connection: what was cut short must not look like a whole.
            _log.warning("An answer to %s was broken off: %s", scope["path"], str(failed) or "its reader took nothing")
            return
        await send({"type": "http.response.body", "body": b""})

    def _begin(self, answer: Answer, error: ErrorResponse, request: Request, patience: Patience) -> Reply:
        patience.check()
        return reply(answer, error, self._query.within(patience), request)

    async def _stop(self, patience: Patience) -> None:
        """Tell the engine; that it cannot be told is no reason to wait for it any longer."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._stopper, self._store.stop, patience)
        except StoreError as failed:
            _log.warning("A statement could not be stopped: %s", failed)


class Asked:
    """One question under way: its patience, and the steps of its answer."""

    def __init__(self, workers: ThreadPoolExecutor, stop: Callable[[Patience], Awaitable[None]]) -> None:
        self.patience = Patience(LIMIT_S)
        self._workers = workers
        self._stop = stop
        self._left = asyncio.Event()

    def leave(self) -> None:
        """Say that nobody waits any more. Idempotent."""
        self.patience.end()
        self._left.set()

    async def step(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run a step in a worker; return when it has ended, in whatever way.

        Raises what it raised, :class:`GaveUp`, and :class:`TooCostly` when no worker was free in time.
        """
        future = self._workers.submit(work, *arguments)
        ended = asyncio.wrap_future(future)
        await self._wait(ended)
        if not ended.done() and future.cancel():
            self.patience.check()
            raise TooCostly("No turn came in time")
        while not ended.done():
            await self._stop(self.patience)
            await asyncio.wait({ended}, timeout=_STOP_AGAIN_S)
        return ended.result()

    async def _wait(self, ended: asyncio.Future[Any]) -> None:
        """Wait for the step, for its time to be over, or for the asker to leave."""
        left: asyncio.Future[Any] = asyncio.ensure_future(self._left.wait())
        try:
            await asyncio.wait({ended, left}, timeout=max(0.0, self.patience.left_s), return_when=FIRST_COMPLETED)
        finally:
            left.cancel()


def _busy(error: ErrorResponse) -> Response:
    response = error(503, "The collector has too many questions to answer; ask again in a moment")
    response.headers["Retry-After"] = "2"
    return response


async def _send(send: Send, message: Message) -> None:
    await asyncio.wait_for(send(message), STALLED_S)


async def _leave_with(receive: Receive, asked: Asked) -> None:
    """Watch the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
    asked.leave()


class Endpoint:
    """An ASGI application: one route's answers."""

    def __init__(self, desk: Desk, answer: Answer, error: ErrorResponse) -> None:
        self._desk = desk
        self._answer = answer
        self._error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await self._desk.answer(self._answer, self._error, scope, receive, send)
