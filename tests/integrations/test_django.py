"""Django under WSGI and ASGI: the kit, and what Django alone has."""

from __future__ import annotations

import contextlib
import gc
from typing import TYPE_CHECKING

import pytest

import clew
from clew.integrations.django import TraceMiddleware, _readable
from clew.testing import MemorySender, recorded
from integrations import django_site
from integrations.kit_common import TRACE_ID, fetch, wait_until
from integrations.kit_server import JOINED, ServerKit, seen
from integrations.servers import on_uvicorn, on_werkzeug

if TYPE_CHECKING:
    from collections.abc import Iterator


def turn_on(mode: str) -> None:
    if mode != "instrumented":
        TraceMiddleware(lambda request: request)
    if mode != "explicit":
        clew.instrument("django", "access_logs")


class TestDjangoWsgi(ServerKit):
    item_route = "/items/<int:id>"
    access_logger = "werkzeug"
    error_logger = "django.request"

    @contextlib.contextmanager
    def serve(self, mode: str) -> Iterator[int]:
        turn_on(mode)
        with on_werkzeug(django_site.wsgi_app()) as port:
            yield port


@pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")  # Django's, after a request that broke off
class TestDjangoAsgi(ServerKit):
    item_route = "/items/<int:id>"
    access_logger = "uvicorn.access"
    error_logger = "django.request"

    @contextlib.contextmanager
    def serve(self, mode: str) -> Iterator[int]:
        turn_on(mode)
        with on_uvicorn(django_site.asgi_app()) as port:
            yield port
        gc.collect()  # while that warning is ignored


@pytest.fixture(params=["wsgi", "asgi"])
def port(request: pytest.FixtureRequest, spans: MemorySender) -> Iterator[int]:
    clew.instrument("django")
    serve = {
        "wsgi": lambda: on_werkzeug(django_site.wsgi_app()),
        "asgi": lambda: on_uvicorn(django_site.asgi_app()),
    }[request.param]
    try:
        with serve() as port:
            yield port
    finally:
        clew.uninstrument()


@pytest.fixture
def spans() -> Iterator[MemorySender]:
    with recorded("site") as sender:
        yield sender


def names(spans: MemorySender) -> list[str]:
    wait_until(lambda: any(span.get("kind") == "SERVER" for span in spans.spans()))
    return [span["name"] for span in spans.spans()]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/old/2024/", "GET /old/<year>/page-<>/"),
        ("/shop/orders/7/", "GET /shop/orders/<pk>/"),
    ],
)
def test_route_of_regular_expressions_is_readable(port: int, spans: MemorySender, path: str, name: str) -> None:
    """Groups are named as path() has them; included patterns are whole."""
    assert 200 == fetch(port, path).status
    assert [name] == names(spans)


@pytest.mark.parametrize(
    ("route", "readable"),
    [
        ("users/<int:pk>/", "users/<int:pk>/"),
        (r"^users/(?P<pk>\d+)/$", "users/<pk>/"),
        (r"api/^users\.(?P<format>[a-z)0-9]+)/?$", "api/users.<format>/"),
        (r"^a/(?:page-(?P<n>(\d|x)+)/)?\Z", "a/page-<n>/"),
        (r"^broken/(?P<n>\d+", "broken/<n>"),
        (r"^(?=look)here$", "here"),
        ("^odd\\", "odd\\"),
    ],
)
def test_readable_route(route: str, readable: str) -> None:
    """Whatever people have written as a regular expression ends up as a short name."""
    assert readable == _readable(route)


def test_async_view_s_exception_is_on_the_span(port: int, spans: MemorySender) -> None:
    """Django answers it itself, in another thread."""
    assert (500, [TRACE_ID]) == (
        (answer := fetch(port, "/async-error", *JOINED)).status,
        answer.header("X-Trace-ID"),
    )
    assert ["GET /async-error"] == names(spans)
    assert ("boom", "RuntimeError") == tuple(spans.spans()[0]["tags"][key] for key in ("error", "error.type"))


def test_page_is_one_template_span(port: int, spans: MemorySender) -> None:
    """Not one for each template that is included, or that a form's widget is made of."""
    assert 200 == fetch(port, "/page").status
    assert ["render page.html", "GET /page"] == names(spans)


def test_statements_are_spans_without_values(port: int, spans: MemorySender) -> None:
    """One for each, although the hook of sqlite3 is there, too; begin and commit as well."""
    clew.instrument("sqlite3")
    assert 200 == fetch(port, "/database", *JOINED).status
    assert [
        "CONNECT",
        "BEGIN",
        "CREATE shop_item",
        "INSERT shop_item",
        "SELECT shop_item",
        "COMMIT",
        "GET /database",
    ] == names(spans)
    assert {TRACE_ID} == {span["traceId"] for span in spans.spans()}
    insert = spans.spans()[3]
    assert ("sqlite", "2", "INSERT INTO shop_item VALUES (?)") == tuple(
        insert["tags"][key] for key in ("db.system", "db.rows", "db.statement")
    )
    assert "secret" not in str(spans.spans())


async def test_channel_is_one_span_with_the_whole_pattern(spans: MemorySender) -> None:
    """Of routers inside each other; its consumer runs in the trace."""
    django_site.configure()
    clew.instrument("django")
    from channels.generic.websocket import WebsocketConsumer
    from channels.routing import ProtocolTypeRouter, URLRouter
    from channels.testing import WebsocketCommunicator
    from django.urls import path, re_path

    class Chat(WebsocketConsumer):  # type: ignore[misc]
        def receive(self, text_data: str = "", bytes_data: bytes = b"") -> None:
            self.send(text_data=seen())

    rooms = URLRouter([re_path(r"^(?P<room>\w+)/$", Chat.as_asgi())])
    app = ProtocolTypeRouter({"websocket": URLRouter([path("other/", rooms), path("chat/", rooms)])})
    client = WebsocketCommunicator(app, "/chat/lobby/", headers=[(b"x-trace-id", TRACE_ID.encode())])
    await client.connect()
    await client.send_to(text_data="hello")
    assert TRACE_ID == (await client.receive_from(timeout=20)).split()[0]
    await client.disconnect()
    clew.uninstrument()
    assert ["WS /chat/<room>/"] == names(spans)
