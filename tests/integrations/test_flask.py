"""Flask on werkzeug's server."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import flask
import pytest
from werkzeug.debug import DebuggedApplication

import clew
from clew.integrations.flask import init_app
from integrations.apps import flask_app
from integrations.kit_common import TRACE_ID, fetch, wait_until
from integrations.kit_server import JOINED, ServerKit
from integrations.servers import on_werkzeug

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clew.testing import MemorySender


class TestFlask(ServerKit):
    item_route = "/items/<int:id>"
    access_logger = "werkzeug"
    error_logger = "kit.flask"

    @contextlib.contextmanager
    def serve(self, mode: str) -> Iterator[int]:
        app = flask_app()
        if mode != "instrumented":
            init_app(app)
        if mode != "explicit":
            clew.instrument("flask", "access_logs")
        with on_werkzeug(app) as port:
            yield port


@pytest.fixture
def app() -> flask.Flask:
    app = flask_app()
    init_app(app)
    return app


def names(spans: MemorySender) -> list[str]:
    wait_until(lambda: bool(spans.spans()))
    return [span["name"] for span in spans.spans()]


def test_copied_request_context_keeps_the_route(app: flask.Flask, clew_spans: MemorySender) -> None:
    """Flask takes the request out of the environ when the copy ends, in the middle of the request."""

    @app.get("/spread/<name>")
    def spread(name: str) -> Any:
        @flask.copy_current_request_context
        def work() -> None:
            assert flask.request.path

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return "ok"

    with on_werkzeug(app) as port:
        assert [TRACE_ID] == fetch(port, "/spread/x", *JOINED).header("X-Trace-ID")
    assert ["GET /spread/<name>"] == names(clew_spans)


@pytest.mark.parametrize("debugger", [True, False])
def test_failed_request_of_debug_mode_has_route_and_trace_id(
    app: flask.Flask, clew_spans: MemorySender, debugger: bool
) -> None:
    """There Flask lets the exception out, and the debugger or the server answers in its place."""
    app.debug = True
    with on_werkzeug(DebuggedApplication(app) if debugger else app) as port:
        answer = fetch(port, "/error", *JOINED)
    assert (500, [TRACE_ID]) == (answer.status, answer.header("X-Trace-ID"))
    assert ["GET /error"] == names(clew_spans)
    assert ("boom", "500") == tuple(clew_spans.spans()[0]["tags"][key] for key in ("error", "http.status_code"))


@pytest.mark.parametrize(("path", "name", "status"), [("/nowhere", "GET", "404"), ("/error", "GET /error", "500")])
def test_error_page_ends_its_span_at_once(
    app: flask.Flask, clew_spans: MemorySender, path: str, name: str, status: str
) -> None:
    """A test client may keep a response without ever reading it."""
    response = app.test_client().get(path)
    assert [(name, status)] == [(span["name"], span["tags"]["http.status_code"]) for span in clew_spans.spans()]
    assert status == str(response.status_code)
