"""The collector's application behind a real socket, on the engine that the tests share."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn

from clew.collector.api import open_desk
from clew.collector.doors.connections import Connections
from clew.collector.ingest import Ingest
from clew.collector.metrics import Metrics
from clew.collector.server import build_app
from clew.collector.serving import configured
from clew.collector.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clew.collector.store.clickhouse import ClickHouseStore


@contextlib.contextmanager
def served(store: ClickHouseStore, directory: Path, **settings: Any) -> Iterator[httpx.Client]:
    """Serve until the end of the `with`; yield a client of the collector."""
    chosen = dataclasses.replace(Settings(retain=3650 * 86_400), **settings)
    ingest = Ingest(store, directory / "journal", Metrics())
    desk = open_desk(store, chosen)
    server = uvicorn.Server(configured(build_app(store, ingest, chosen, desk), Connections(ingest.metrics)))
    started = threading.Event()
    original = server.startup

    async def startup(sockets: list[socket.socket] | None = None) -> None:
        await original(sockets)
        started.set()

    server.startup = startup  # type: ignore[method-assign]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        assert started.wait(20)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=30) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join(20)
            ingest.close()
