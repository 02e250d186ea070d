"""Flask on werkzeug's server."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import clew
from clew.integrations.flask import init_app
from integrations.apps import flask_app
from integrations.kit_server import ServerKit
from integrations.servers import on_werkzeug

if TYPE_CHECKING:
    from collections.abc import Iterator


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
