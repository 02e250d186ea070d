"""Before a question is asked: what was acknowledged until now is in the tables, or the answer says what it lacks.

``GET`` of anything that reads rows waits here until ingest has inserted what waits, once for all that ask meanwhile.
That takes tens of milliseconds while something arrives and nothing otherwise. When it cannot be done (the store takes
nothing, or more arrives than it takes in :data:`~clew.collector.ingest.SETTLE_S`), the answer comes all the same, with
the reason in the header ``Clew-Incomplete``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders
from starlette.routing import Route

from clew.collector.api.answers import INCOMPLETE
from clew.collector.ingest import LATE, SETTLE_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from clew.collector.ingest import Ingest


def settled(routes: Iterable[BaseRoute], ingest: Ingest) -> list[BaseRoute]:
    """Return the routes, each of which has what waits inserted before it answers."""
    routes = list(routes)
    for route in routes:
        if isinstance(route, Route):
            route.app = Settled(route.app, ingest)
    return routes


class Settled:
    """ASGI: waits for ingest, then calls ``app``."""

    def __init__(self, app: ASGIApp, ingest: Ingest) -> None:
        self._app = app
        self._ingest = ingest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI says what it does
        lacking = await self._settle()

        async def send_and_say(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).append(INCOMPLETE, lacking)
            await send(message)

        await self._app(scope, receive, send_and_say if lacking else send)

    async def _settle(self) -> str:
        """Return what an answer lacks, '' if nothing."""
        settling = self._ingest.settling()
        if not settling.done():
            try:
                await asyncio.wait_for(asyncio.wrap_future(settling), SETTLE_S)
            except asyncio.TimeoutError:
                return self._ingest.unsettled or LATE
        return self._ingest.unsettled
