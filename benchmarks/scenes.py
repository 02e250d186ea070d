"""What is traced: the same application, request and call for every library. Only the network is left out."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import flask
    import httpx
    import requests

SPANS_A_TRACE = 100  # one root and 99 children: the cost of a child is what counts
TAGS = {"db.system": "postgresql", "rows": "3"}
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
_URL = "http://stock.example:8080/items/42?full=1"

# ASGI: what uvicorn hands over for a GET by a client that traces.

_SCOPE: dict[str, Any] = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "http_version": "1.1",
    "server": ("127.0.0.1", 8000),
    "client": ("127.0.0.1", 51234),
    "scheme": "http",
    "method": "GET",
    "root_path": "",
    "path": "/items/42",
    "raw_path": b"/items/42",
    "query_string": b"full=1",
    "headers": [
        (b"host", b"127.0.0.1:8000"),
        (b"user-agent", b"python-httpx/0.28.1"),
        (b"accept", b"*/*"),
        (b"accept-encoding", b"gzip, deflate"),
        (b"connection", b"keep-alive"),
        (b"traceparent", TRACEPARENT.encode()),
    ],
}


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    """Answer with two bytes, as plainly as ASGI allows."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def _receive() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Any) -> None:
    pass


class Requests:
    """Serves requests by one of two ASGI applications: tracing on, tracing off."""

    def __init__(self, bare: Any, traced: Any) -> None:
        self._apps = {False: bare, True: traced}
        self._app = bare
        self._loop = asyncio.new_event_loop()

    def switch(self, on: bool) -> None:
        """Choose the application."""
        self._app = self._apps[on]

    def serve(self, count: int) -> None:
        """Serve requests one after another, without a socket."""
        self._loop.run_until_complete(self._serve(count))

    async def _serve(self, count: int) -> None:
        app = self._app
        for _ in range(count):
            await app(_SCOPE.copy(), _receive, _send)


# WSGI

_ENVIRON: dict[str, Any] = {
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "",
    "PATH_INFO": "/items/42",
    "RAW_URI": "/items/42?full=1",
    "QUERY_STRING": "full=1",
    "SERVER_NAME": "127.0.0.1",
    "SERVER_PORT": "8000",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "127.0.0.1",
    "REMOTE_PORT": "51234",
    "HTTP_HOST": "127.0.0.1:8000",
    "HTTP_USER_AGENT": "python-requests/2.32",
    "HTTP_ACCEPT": "*/*",
    "HTTP_TRACEPARENT": TRACEPARENT,
    "wsgi.version": (1, 0),
    "wsgi.url_scheme": "http",
    "wsgi.errors": sys.stderr,
    "wsgi.multithread": True,
    "wsgi.multiprocess": False,
    "wsgi.run_once": False,
}


def flask_app() -> flask.Flask:
    """Make an application with one route."""
    import flask

    app = flask.Flask("shop")

    @app.route("/items/<int:item>")
    def item(item: int) -> str:
        return "ok"

    return app


def _start_response(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], object]:
    return lambda data: None


def serve_wsgi(app: Any, count: int) -> None:
    """Serve requests one after another as a WSGI server does: read the body, close it."""
    body = io.BytesIO()
    for _ in range(count):
        answer = app({**_ENVIRON, "wsgi.input": body}, _start_response)
        for _chunk in answer:
            pass
        close = getattr(answer, "close", None)
        if close is not None:
            close()


class WsgiRequests:
    """Serves requests by one of two WSGI applications: tracing on, tracing off."""

    def __init__(self, bare: Any, traced: Any) -> None:
        self._apps = {False: bare, True: traced}
        self._app = bare

    def switch(self, on: bool) -> None:
        """Choose the application."""
        self._app = self._apps[on]

    def serve(self, count: int) -> None:
        """Serve requests."""
        serve_wsgi(self._app, count)


# Calls: the client library's own code runs, the network answers at once.


def httpx_client() -> httpx.Client:
    """Make a client whose network answers 200 at once."""
    import httpx

    return httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(200)), trust_env=False)


def call_httpx(client: httpx.Client, count: int) -> None:
    """Make calls one after another."""
    for _ in range(count):
        client.get(_URL)


def requests_session() -> requests.Session:
    """Make a session whose network answers 200 at once."""
    import requests
    from requests.adapters import BaseAdapter

    class Answering(BaseAdapter):
        def send(self, request: Any, *_: Any, **__: Any) -> requests.Response:
            response = requests.Response()
            response.status_code = 200
            response.url = request.url
            response.request = request
            response._content = b""
            response.raw = io.BytesIO()
            return response

        def close(self) -> None:
            pass

    session = requests.Session()
    session.trust_env = False
    session.mount("http://", Answering())
    return session


def call_requests(session: requests.Session, count: int) -> None:
    """Make calls one after another."""
    for _ in range(count):
        session.get(_URL)


# Statements: the smallest that a database answers, in memory, by the driver that Python brings.


class Statements:
    """Asks by one of two connections: tracing on, tracing off."""

    def __init__(self, bare: Any, traced: Any) -> None:
        self._cursors = {False: _cursor_with_items(bare), True: _cursor_with_items(traced)}
        self._cursor = self._cursors[False]

    def switch(self, on: bool) -> None:
        """Choose the connection."""
        self._cursor = self._cursors[on]

    def ask(self, count: int) -> None:
        """Run statements one after another."""
        execute = self._cursor.execute
        for _ in range(count):
            execute("SELECT name FROM items WHERE id = ?", (42,))


def _cursor_with_items(connection: Any) -> Any:
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT)")
    return cursor


# Logging


class _Forget(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        pass


def logger_with_handler() -> tuple[logging.Logger, logging.Handler]:
    """Make a logger whose records go to one handler, which forgets them."""
    logger = logging.getLogger("shop")
    handler = _Forget()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return logger, handler


def log_lines(logger: logging.Logger, count: int) -> None:
    """Log lines one after another."""
    for _ in range(count):
        logger.info("reserved %d of item %s", 3, "42")
