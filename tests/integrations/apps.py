"""The kit's application in each framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flask
from aiohttp import web
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse as FastAPIText
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

import clew
from integrations.kit_common import stays_itself
from integrations.kit_server import log, seen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


async def _pieces() -> AsyncIterator[str]:
    yield seen() + "\n"
    yield seen() + "\n"
    with clew.start_span("chunk"):
        pass
    yield seen() + "\n"


async def _broken_pieces() -> AsyncIterator[str]:
    yield "begun"
    raise RuntimeError("too late")


def starlette_app() -> Starlette:
    async def item(request: Any) -> Any:
        log.info("item")
        return PlainTextResponse(seen())

    async def unavailable(request: Any) -> Any:
        return PlainTextResponse("later", 503)

    async def error(request: Any) -> Any:
        raise RuntimeError("boom")

    async def stream(request: Any) -> Any:
        return StreamingResponse(_pieces())

    async def late_error(request: Any) -> Any:
        return StreamingResponse(_broken_pieces())

    async def copied(request: Any) -> Any:
        return PlainTextResponse(stays_itself(request.scope.values()))

    return Starlette(
        routes=[
            Route("/items/{id}", item),
            Route("/unavailable", unavailable),
            Route("/error", error),
            Route("/stream", stream),
            Route("/late-error", late_error),
            Route("/copied", copied),
        ]
    )


def fastapi_app() -> FastAPI:
    app = FastAPI()

    @app.get("/items/{id}", response_class=FastAPIText)
    def item(id: int) -> str:  # a plain function: FastAPI runs it in a thread
        log.info("item")
        return seen()

    @app.get("/unavailable")
    async def unavailable() -> Any:
        return FastAPIText("later", 503)

    @app.get("/error")
    async def error() -> None:
        raise RuntimeError("boom")

    @app.get("/stream")
    async def stream() -> Any:
        return StreamingResponse(_pieces())

    @app.get("/late-error")
    async def late_error() -> Any:
        return StreamingResponse(_broken_pieces())

    @app.get("/copied")
    async def copied(request: Request) -> Any:
        return FastAPIText(stays_itself(request.scope.values()))

    return app


def _sync_pieces() -> Iterator[str]:
    yield seen() + "\n"
    yield seen() + "\n"
    with clew.start_span("chunk"):
        pass
    yield seen() + "\n"


def _sync_broken_pieces() -> Iterator[str]:
    yield "begun"
    raise RuntimeError("too late")


def flask_app() -> flask.Flask:
    app = flask.Flask("kit.flask")

    @app.get("/items/<int:id>")
    def item(id: int) -> Any:
        log.info("item")
        return seen()

    @app.get("/unavailable")
    def unavailable() -> Any:
        return "later", 503

    @app.get("/error")
    def error() -> Any:
        raise RuntimeError("boom")

    @app.get("/stream")
    def stream() -> Any:
        return flask.Response(_sync_pieces())

    @app.get("/late-error")
    def late_error() -> Any:
        return flask.Response(_sync_broken_pieces())

    @app.get("/copied")
    def copied() -> Any:
        return stays_itself(flask.request.environ.values())

    return app


def aiohttp_app() -> web.Application:
    async def item(request: web.Request) -> web.Response:
        log.info("item")
        return web.Response(text=seen())

    async def unavailable(request: web.Request) -> web.Response:
        raise web.HTTPServiceUnavailable

    async def error(request: web.Request) -> web.Response:
        raise RuntimeError("boom")

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        async for piece in _pieces():
            await response.write(piece.encode())
        return response

    async def late_error(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        async for piece in _broken_pieces():
            await response.write(piece.encode())
        return response

    async def copied(request: web.Request) -> web.Response:
        return web.Response(text=stays_itself(request.values()))

    app = web.Application()
    app.router.add_get("/copied", copied)
    app.router.add_get("/items/{id}", item)
    app.router.add_get("/unavailable", unavailable)
    app.router.add_get("/error", error)
    app.router.add_get("/stream", stream)
    app.router.add_get("/late-error", late_error)
    return app
