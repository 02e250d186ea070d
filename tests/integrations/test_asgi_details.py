"""What is special about ASGI: WebSockets, mounts, background tasks, middleware around and beneath, raw applications."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles
from websockets.sync.client import connect

import clew
from clew.integrations.asgi import TraceMiddleware
from integrations.kit_common import SPAN_ID, TRACE_ID, fetch, log_lines, wait_until
from integrations.kit_server import JOINED, log, seen
from integrations.servers import on_uvicorn

if TYPE_CHECKING:
    from pathlib import Path

    from clew.testing import MemorySender


def server_span(spans: MemorySender) -> dict[str, Any]:
    wait_until(lambda: any(span.get("kind") == "SERVER" for span in spans.spans()))
    (span,) = [span for span in spans.spans() if span.get("kind") == "SERVER"]
    return span


async def answer(request: Any) -> PlainTextResponse:
    log.info("item")
    return PlainTextResponse(seen())


def scope_of(path: str = "/", **more: Any) -> dict[str, Any]:
    return {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b"", **more}


async def call(app: Any, scope: dict[str, Any]) -> list[Any]:
    """Call an ASGI app without a server; return what it sent."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    await app(scope, receive, send)
    return sent


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


class TestRoutes:
    def test_mounts_are_in_the_route(self, clew_spans: MemorySender) -> None:
        """A mounted app's route has the mount's prefix, whose parameters are names, not values."""
        inner = Starlette(routes=[Route("/orders/{id:int}", answer)])
        app = Starlette(routes=[Mount("/v1", Starlette(routes=[Mount("/{tenant}", inner)]))])
        with on_uvicorn(TraceMiddleware(app)) as port:
            assert 200 == fetch(port, "/v1/acme/orders/7", *JOINED).status
        assert "GET /v1/{tenant}/orders/{id:int}" == server_span(clew_spans)["name"]

    @pytest.mark.parametrize(
        ("path", "name"),
        [
            ("/static/a.txt", "GET /static"),
            ("/static/none", "GET /static"),
            ("/api/u/3", "GET /api/u/{id}"),
            ("/api/none", "GET /api"),
            ("/v/7/o/3", "GET /v/{version}/o/{id:int}"),
            ("/v/7/none", "GET /v/{version}"),
            ("/v/a.b/in/x", "GET /v/{version}/in/x"),
            ("/deep/7", "GET /deep/{id}"),
            ("/none", "GET"),
            ("/hosted/7", "GET /hosted/{id}"),
            ("/copied/7", "GET /copied/{id}"),
        ],
    )
    @pytest.mark.parametrize("root_path", ["", "/proxy"])
    async def test_each_mount_is_in_the_route_once(
        self, clew_spans: MemorySender, tmp_path: Path, path: str, name: str, root_path: str
    ) -> None:
        """Files, apps that know no such path, parameters, mounts in mounts, hosts, a scope that middleware copied."""
        (tmp_path / "a.txt").write_text("a")

        def copying(app: Any) -> Any:
            async def copy(scope: Any, receive: Any, send: Any) -> None:
                await app(dict(scope), receive, send)

            return copy

        app = Starlette(
            routes=[
                Mount("/static", StaticFiles(directory=tmp_path)),
                Mount("/api", Router([Route("/u/{id}", answer)])),
                Mount(
                    "/v/{version}", Router([Route("/o/{id:int}", answer), Mount("/in", routes=[Route("/x", answer)])])
                ),
                Mount("/copied", copying(Router([Route("/{id}", answer)]))),
                Host("there", Router([Route("/hosted/{id}", answer)])),
                Mount("/", routes=[Route("/deep/{id}", answer)]),
            ]
        )
        headers = [(b"host", b"there" if "hosted" in path else b"here")]
        asgi = {"spec_version": "2.4"}
        scope = scope_of(root_path + path, root_path=root_path, headers=headers, asgi=asgi)
        await call(TraceMiddleware(app), scope)
        assert name == server_span(clew_spans)["name"]

    def test_included_router_s_prefix_is_in_the_route(self, clew_spans: MemorySender) -> None:
        """FastAPI's ``include_router(prefix=...)`` is part of the route, a mounted FastAPI too."""
        router = APIRouter(prefix="/users")
        router.add_api_route("/{id}", lambda id: id)
        inner, app = FastAPI(), FastAPI()
        inner.include_router(router, prefix="/v2")
        app.mount("/api", inner)
        with on_uvicorn(TraceMiddleware(app)) as port:
            assert 200 == fetch(port, "/api/v2/users/7", *JOINED).status
        assert "GET /api/v2/users/{id}" == server_span(clew_spans)["name"]

    def test_method_that_nobody_knows_is_not_in_the_name(self, clew_spans: MemorySender) -> None:
        """A client cannot make span names."""
        with on_uvicorn(TraceMiddleware(Starlette())) as port:
            fetch(port, "/", *JOINED, method="X" * 40)
        span = server_span(clew_spans)
        assert ("HTTP", "X" * 19 + "…") == (span["name"], span["tags"]["http.method"])


class TestMiddleware:
    @pytest.mark.parametrize("where", ["beneath", "above"])
    def test_base_http_middleware(self, clew_spans: MemorySender, where: str) -> None:
        """Starlette's BaseHTTPMiddleware runs what is beneath it in a task of its own: no harm, on either side."""

        async def dispatch(request: Any, call_next: Any) -> Any:
            return await call_next(request)

        app = Starlette(routes=[Route("/items/{id}", answer)])
        order = [(TraceMiddleware, {}), (BaseHTTPMiddleware, {"dispatch": dispatch})]
        for middleware, options in order if where == "beneath" else reversed(order):
            app.add_middleware(middleware, **options)
        with log_lines("kit.app", "uvicorn.access") as lines, on_uvicorn(app) as port:
            response = fetch(port, "/items/7", *JOINED)
            wait_until(lambda: bool(lines.trace_ids("uvicorn.access")))
        assert [TRACE_ID, SPAN_ID] == response.body.split()[::2]
        assert [TRACE_ID] == response.header("X-Trace-ID")
        assert {TRACE_ID} == lines.trace_ids("kit.app") == lines.trace_ids("uvicorn.access")
        assert "GET /items/{id}" == server_span(clew_spans)["name"]

    @pytest.mark.parametrize("kind", ["async", "sync"])
    def test_handler_of_uncaught_exceptions_is_in_the_trace(self, clew_spans: MemorySender, kind: str) -> None:
        """Starlette calls it outside of all added middleware; what it logs still carries the id."""

        def handle(request: Any, error: Exception) -> PlainTextResponse:
            log.info("handled")
            return PlainTextResponse(seen(), 500)

        async def handle_async(request: Any, error: Exception) -> PlainTextResponse:
            return handle(request, error)

        async def fail(request: Any) -> None:
            raise RuntimeError("boom")

        handlers = {Exception: handle if kind == "sync" else handle_async}
        app = Starlette(routes=[Route("/error", fail)], exception_handlers=handlers)
        app.add_middleware(TraceMiddleware)
        with log_lines("kit.app", "uvicorn.error", "uvicorn.access") as lines, on_uvicorn(app) as port:
            for _ in range(2):
                assert TRACE_ID == fetch(port, "/error", *JOINED).body.split()[0]
            wait_until(lambda: bool(lines.trace_ids("uvicorn.error", logging.ERROR)))
        assert {TRACE_ID} == lines.trace_ids("kit.app") == lines.trace_ids("uvicorn.error", logging.ERROR)

    async def test_error_that_middleware_answers_is_no_failure(self, clew_spans: MemorySender) -> None:
        """What left the route before a response was begun, and became a good one, is nobody's failure."""

        async def dispatch(request: Any, call_next: Any) -> Any:
            try:
                return await call_next(request)
            except ValueError:
                return PlainTextResponse("well")

        async def fail(request: Any) -> None:
            raise ValueError("no")

        app = Starlette(routes=[Route("/x", fail)])
        app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
        await call(TraceMiddleware(app), scope_of("/x"))
        tags = server_span(clew_spans)["tags"]
        assert ("200", None) == (tags["http.status_code"], tags.get("error"))

    async def test_failed_background_task_is_no_failed_request(self, clew_spans: MemorySender) -> None:
        """The response was whole."""

        def fail() -> None:
            raise ValueError("later")

        async def dispatch(request: Any, call_next: Any) -> Any:
            return await call_next(request)

        async def order(request: Any) -> PlainTextResponse:
            return PlainTextResponse("ok", background=BackgroundTask(fail))

        app = Starlette(routes=[Route("/x", order)])
        app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
        with pytest.raises(ValueError, match="later"):
            await call(TraceMiddleware(app), scope_of("/x"))
        assert "error" not in server_span(clew_spans)["tags"]

    @pytest.mark.parametrize("answered", [500, 400])
    async def test_exception_of_a_mounted_app_is_told_where_a_middleware_loses_it(
        self, clew_spans: MemorySender, answered: int
    ) -> None:
        """As Starlette's own did in old versions, once the mounted app has answered 500; not if it is handled."""

        async def fail(request: Any) -> None:
            raise ValueError("boom")

        inner = Starlette(routes=[Route("/x", fail)])
        inner.add_middleware(TraceMiddleware)

        async def lose(scope: Any, receive: Any, send: Any) -> None:
            try:
                await inner(scope, receive, sent)
            except ValueError:
                await PlainTextResponse("no", answered)(scope, receive, send)

        async def sent(message: Any) -> None:
            pass

        await call(TraceMiddleware(lose), scope_of("/x"))
        tags = server_span(clew_spans)["tags"]
        assert (str(answered), "boom" if answered == 500 else None) == (tags["http.status_code"], tags.get("error"))

    async def test_scope_can_be_pickled_whole(self, clew_spans: MemorySender) -> None:
        """A raw application's scope is of plain values; it comes out of another process equal."""
        scopes: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            scopes.append(scope)
            await hello(scope, receive, send)

        await call(TraceMiddleware(app), scope_of("/x"))
        assert scopes[0] == pickle.loads(pickle.dumps(scopes[0])) == copy.deepcopy(scopes[0])

    def test_middleware_twice_is_one_span(self, clew_spans: MemorySender) -> None:
        """Around the app, added to it and added to a mounted one: the outermost makes the span."""
        inner = Starlette(routes=[Route("/x", answer)])
        inner.add_middleware(TraceMiddleware)
        app = Starlette(routes=[Mount("/in", inner)])
        app.add_middleware(TraceMiddleware)
        with on_uvicorn(TraceMiddleware(app)) as port:
            fetch(port, "/in/x", *JOINED)
        assert "GET /in/x" == server_span(clew_spans)["name"]


class TestAfterTheResponse:
    def test_background_task_keeps_the_trace_but_not_the_span(self, clew_spans: MemorySender) -> None:
        """The span ends with the body; what a background task logs and starts belongs to the trace."""
        done = asyncio.Event()
        found: list[str] = []

        async def later() -> None:
            found.extend(span["name"] for span in clew_spans.spans())
            with clew.start_span("mail"):
                log.info("mail")
            done.set()

        async def order(request: Any) -> PlainTextResponse:
            return PlainTextResponse("ok", background=BackgroundTask(later))

        app = TraceMiddleware(Starlette(routes=[Route("/order", order)]))
        with log_lines("kit.app", "uvicorn.access") as lines, on_uvicorn(app) as port:
            fetch(port, "/order", *JOINED)
            wait_until(done.is_set)
        assert ["GET /order"] == found
        assert {TRACE_ID} == lines.trace_ids("kit.app")
        server, mail = clew_spans.spans()
        assert (TRACE_ID, server["id"], "mail") == (mail["traceId"], mail["parentId"], mail["name"])

    async def test_context_is_the_caller_s_again(self, clew_spans: MemorySender) -> None:
        """An app that is called in a task that lives on, as by a test client, leaves nothing behind in it."""

        async def fail(scope: Any, receive: Any, send: Any) -> None:
            clew.start_span("left open")
            raise ValueError("no")

        await call(TraceMiddleware(hello), scope_of())
        assert clew.get_trace_context() is None
        with pytest.raises(ValueError, match="no"):
            await call(TraceMiddleware(fail), scope_of())
        assert clew.get_trace_context() is None

    async def test_cancelled_request_ends_its_span(self, clew_spans: MemorySender) -> None:
        """A server that cancels a request, because the client went, gets its cancellation, and the span its end."""
        running = asyncio.Event()

        async def wait(scope: Any, receive: Any, send: Any) -> None:
            running.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(call(TraceMiddleware(wait), scope_of()))
        await running.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert "CancelledError" in server_span(clew_spans)["tags"]["error.type"]

    async def test_messages_of_the_app_are_not_changed(self, clew_spans: MemorySender) -> None:
        """A response that is kept and sent again has the id of its own request only."""
        start = {"type": "http.response.start", "status": 200, "headers": [(b"x-trace-id", b"old"), (b"a", b"b")]}

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(start)
            await send({"type": "http.response.body"})

        sent = await call(TraceMiddleware(app), scope_of())
        trace_id = server_span(clew_spans)["traceId"].encode()
        assert [(b"a", b"b"), (b"x-trace-id", trace_id)] == sent[0]["headers"]
        assert [(b"x-trace-id", b"old"), (b"a", b"b")] == start["headers"]

    async def test_lifespan_passes_untouched(self, clew_spans: MemorySender) -> None:
        """What is no request makes no span, and its scope, receive and send are the server's own."""
        got: list[Any] = []

        async def app(*arguments: Any) -> None:
            got.extend(arguments)

        scope, receive, send = {"type": "lifespan"}, object(), object()
        await TraceMiddleware(app)(scope, receive, send)  # type: ignore[arg-type]
        assert [scope, receive, send] == got
        assert {"type": "lifespan"} == scope
        assert [] == clew_spans.spans()


class TestWebSocket:
    async def chat(self, socket: Any) -> None:
        await socket.accept()
        await socket.send_text(seen())
        await socket.receive_text()
        await socket.close(4000)

    def test_connection_is_one_span(self, clew_spans: MemorySender) -> None:
        """From handshake to close; the handshake's response carries the trace id."""
        app = TraceMiddleware(Starlette(routes=[WebSocketRoute("/chat/{room}", self.chat)]))
        with on_uvicorn(app, ws="websockets-sansio") as port:
            address = f"ws://127.0.0.1:{port}/chat/red?x=1"
            with connect(address, additional_headers=dict(JOINED), proxy=None) as socket:
                assert [TRACE_ID, SPAN_ID] == str(socket.recv()).split()[::2]
                assert socket.response is not None
                assert TRACE_ID == socket.response.headers["X-Trace-ID"]
                socket.send("bye")
            span = server_span(clew_spans)
        assert (TRACE_ID, SPAN_ID, "WS /chat/{room}") == (span["traceId"], span["parentId"], span["name"])
        assert {
            "http.method": "GET",
            "http.path": "/chat/red",
            "http.route": "/chat/{room}",
            "http.status_code": "101",
            "websocket.close_code": "4000",
        } == span["tags"]
