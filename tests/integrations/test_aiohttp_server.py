"""aiohttp's own server."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import clew
from clew.integrations.aiohttp import middleware
from integrations.apps import aiohttp_app
from integrations.kit_server import ServerKit
from integrations.servers import on_aiohttp

if TYPE_CHECKING:
    from collections.abc import Iterator


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
