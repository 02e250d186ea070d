"""How the collector is: ``/health``, ``/info`` and ``/metrics``, answered whatever else goes on.

They run in the event loop itself and ask nobody who may be busy: the questions' threads may all be taken, and the store
may take its time. What only the store knows, how much disk it uses, is asked for by a thread of its own; if that does
not answer in time, the last answer stands.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from clew.collector.store import StoreError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from clew.collector.ingest import Ingest
    from clew.collector.settings import Settings
    from clew.collector.store import SpanStore

DISK_WAIT_S: Final = 1.0

_log = logging.getLogger("clew.collector")


def routes(store: SpanStore, ingest: Ingest, settings: Settings) -> list[BaseRoute]:
    """Return the routes."""
    vitals = Vitals(store, ingest, settings)
    return [Route("/health", vitals.health), Route("/info", vitals.info), Route("/metrics", vitals.metrics)]


class Vitals:
    """The answers. One event loop."""

    def __init__(self, store: SpanStore, ingest: Ingest, settings: Settings) -> None:
        version = metadata.version("clew")
        kind = "server" if settings.store else "embedded"
        self._about = {
            "clew": {"version": version, "retain_s": settings.retain, "store": kind},
            "zipkin": {"version": version},
        }
        self._ingest = ingest
        self._store = store
        self._disk_bytes = 0
        self._asking: Future[None] | None = None
        self._asker = ThreadPoolExecutor(1, "clew-disk")
        ingest.metrics.gauge("disk_bytes", lambda: self._disk_bytes)

    async def health(self, _: Request) -> Response:
        """Answer in the shape of Zipkin's health check; 503 while the store takes nothing."""
        works = self._ingest.store_works
        status = "UP" if works else "DOWN"
        store: dict[str, Any] = {"status": status}
        if self._store.damaged:
            store["damaged"] = list(self._store.damaged)
        body = {"status": status, "zipkin": {"status": status, "details": {"store": store}}}
        return JSONResponse(body, 200 if works else 503)

    async def info(self, _: Request) -> Response:
        """Answer what this is."""
        return JSONResponse(self._about)

    async def metrics(self, _: Request) -> Response:
        """Answer in Prometheus' text format."""
        if self._asking is None or self._asking.done():
            self._asking = self._asker.submit(self._ask_disk_bytes)
        await asyncio.wait([asyncio.wrap_future(self._asking)], timeout=DISK_WAIT_S)
        return Response(self._ingest.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    def _ask_disk_bytes(self) -> None:
        try:
            self._disk_bytes = self._store.disk_bytes()
        except StoreError as error:
            _log.warning("metrics: the store does not say how much disk it uses: %s", error)
