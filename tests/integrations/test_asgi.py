"""Starlette and FastAPI on uvicorn."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from starlette.middleware.base import BaseHTTPMiddleware

import clew
from clew.integrations.asgi import TraceMiddleware
from integrations.apps import fastapi_app, starlette_app
from integrations.kit_server import ServerKit
from integrations.servers import on_uvicorn

if TYPE_CHECKING:
    from collections.abc import Iterator


class _OnUvicorn(ServerKit):
    access_logger = "uvicorn.access"
    error_logger = "uvicorn.error"
    http = "h11"

    def app(self) -> Any:
        return starlette_app()

    @contextlib.contextmanager
    def serve(self, mode: str) -> Iterator[int]:
        app = self.app()
        if mode != "instrumented":
            app.add_middleware(TraceMiddleware)
        if mode != "explicit":
            clew.instrument("asgi", "access_logs")
        with on_uvicorn(app, self.http) as port:
            yield port


class TestStarletteOnH11(_OnUvicorn):
    """The reference."""


class TestStarletteOnHttptools(_OnUvicorn):
    """Another server protocol, another access log."""

    http = "httptools"


class TestFastAPI(_OnUvicorn):
    """Handlers in threads, an exit stack around them."""

    def app(self) -> Any:
        return fastapi_app()


class _PassOn(BaseHTTPMiddleware):
    async def dispatch(self, request: Any, call_next: Any) -> Any:
        return await call_next(request)


class TestBehindBaseMiddleware(_OnUvicorn):
    """Starlette's BaseHTTPMiddleware, twice, which ends a response that broke off as if it were whole."""

    def app(self) -> Any:
        app = starlette_app()
        app.add_middleware(_PassOn)
        app.add_middleware(_PassOn)
        return app
