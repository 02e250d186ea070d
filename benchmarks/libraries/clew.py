"""clew, as a program would set it up, except that the queue never fills while a slice is measured."""

from __future__ import annotations

from typing import Any

import clew
from benchmarks import scenes
from benchmarks.libraries import udp_sink
from benchmarks.measure import Case


def _configure(flush_interval: float = 60.0) -> None:
    clew.configure("bench", f"udp://{udp_sink()}", queue_size=1_000_000, flush_interval=flush_interval)


def _settle() -> None:
    clew.flush(30.0)


def _query() -> None:
    with clew.start_span("db.query", kind="CLIENT", tags=scenes.TAGS):
        pass


def _spans(count: int) -> None:
    for _ in range(count // scenes.SPANS_A_TRACE):
        with clew.start_span("root"):
            for _ in range(scenes.SPANS_A_TRACE - 1):
                _query()


def span() -> Case:
    """A span, finished and queued."""
    _configure()
    return Case(_spans, settle=_settle)


def total() -> Case:
    """A span with everything that happens to it, on all threads, until the datagram is sent."""
    _configure(flush_interval=0.5)
    return Case(_spans, settle=_settle, whole_process=True)


def asgi() -> Case:
    """A request through the middleware."""
    from clew.integrations.asgi import TraceMiddleware

    _configure()
    requests = scenes.Requests(scenes.asgi_app, TraceMiddleware(scenes.asgi_app))
    return Case(requests.serve, requests.switch, _settle)


def flask() -> Case:
    """A request through a traced application."""
    from clew.integrations.flask import init_app

    _configure()
    traced = scenes.flask_app()
    init_app(traced)
    requests = scenes.WsgiRequests(scenes.flask_app(), traced)
    return Case(requests.serve, requests.switch, _settle)


def httpx() -> Case:
    """A call by a patched client, inside a trace."""
    client = scenes.httpx_client()
    return _calls("httpx", lambda count: scenes.call_httpx(client, count))


def requests() -> Case:
    """A call by a patched session, inside a trace."""
    session = scenes.requests_session()
    return _calls("requests", lambda count: scenes.call_requests(session, count))


def _calls(library: str, operate: Any) -> Case:
    _configure()
    clew.start_span("root")  # stays open: calls are made by requests

    def switch(on: bool) -> None:
        (clew.instrument if on else clew.uninstrument)(library)

    return Case(operate, switch, _settle)


def sql() -> Case:
    """A statement by a traced connection, inside a trace; with the line that asked."""
    import sqlite3

    _configure()
    bare = sqlite3.connect(":memory:")
    clew.instrument("sqlite3")
    traced = sqlite3.connect(":memory:")
    clew.start_span("root")
    statements = scenes.Statements(bare, traced)
    return Case(statements.ask, statements.switch, _settle)


def log() -> Case:
    """A record stamped on its way to a handler, inside a trace."""
    from clew import logging as clew_logging

    _configure()
    clew.start_span("root")
    logger, _ = scenes.logger_with_handler()

    def switch(on: bool) -> None:
        (clew_logging.install if on else clew_logging.uninstall)()

    return Case(lambda count: scenes.log_lines(logger, count), switch)
