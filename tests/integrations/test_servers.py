"""Every server, started as its users do, with plain applications and with frameworks: one span a request, never two."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from integrations.kit_common import TRACE_ID, wait_until
from integrations.kit_server import JOINED
from integrations.programs import Program

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = """
import logging
import clew
log = logging.getLogger("site")

def wsgi(environ, start_response):
    log.warning("wsgi")
    if environ["PATH_INFO"] == "/error":
        raise RuntimeError("boom")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return iter([str(clew.get_trace_context().trace_id).encode()])

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    log.warning("asgi")
    if scope["path"] == "/error":
        raise RuntimeError("boom")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": clew.get_trace_context().trace_id.encode()})
"""
FRAMEWORKS = """
import clew, flask
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

wsgi = flask.Flask(__name__)

@wsgi.get("/items/<int:number>")
def item(number):
    return clew.get_trace_context().trace_id

async def item(request):
    return PlainTextResponse(clew.get_trace_context().trace_id)

asgi = Starlette(routes=[Route("/items/{number}", item)])
"""
WSGI = {
    "gunicorn": ("gunicorn", "-b", "127.0.0.1:{port}", "--access-logfile", "-", "site_:wsgi"),
    "gunicorn-gthread": ("gunicorn", "-k", "gthread", "-b", "127.0.0.1:{port}", "--access-logfile", "-", "site_:wsgi"),
    "gunicorn-gevent": ("gunicorn", "-k", "gevent", "-b", "127.0.0.1:{port}", "--access-logfile", "-", "site_:wsgi"),
    "gunicorn-pywsgi": (
        *("gunicorn", "-k", "gunicorn.workers.ggevent.GeventPyWSGIWorker"),
        *("-b", "127.0.0.1:{port}", "--access-logfile", "-", "site_:wsgi"),
    ),
    "uvicorn-wsgi": ("uvicorn", "--interface", "wsgi", "--port", "{port}", "site_:wsgi"),
    "hypercorn-wsgi": ("hypercorn", "-b", "127.0.0.1:{port}", "--access-logfile", "-", "wsgi:site_:wsgi"),
    "granian-wsgi": ("granian", "--interface", "wsgi", "--port", "{port}", "--access-log", "site_:wsgi"),
    "waitress": ("waitress-serve", "--listen", "127.0.0.1:{port}", "site_:wsgi"),
    "wsgiref": ("python", "serve.py", "{port}"),
    "werkzeug": ("python", "serve_werkzeug.py", "{port}"),
}
ASGI = {
    "uvicorn": ("uvicorn", "--http", "httptools", "--port", "{port}", "site_:asgi"),
    "uvicorn-h11": ("uvicorn", "--http", "h11", "--port", "{port}", "site_:asgi"),
    "gunicorn-asgi": ("gunicorn", "-k", "asgi", "-b", "127.0.0.1:{port}", "--access-logfile", "-", "site_:asgi"),
    "hypercorn": ("hypercorn", "-b", "127.0.0.1:{port}", "--access-logfile", "-", "site_:asgi"),
    "daphne": ("daphne", "-b", "127.0.0.1", "-p", "{port}", "site_:asgi"),
    "granian": ("granian", "--interface", "asgi", "--port", "{port}", "--access-log", "site_:asgi"),
}
COMMANDS = {**WSGI, **ASGI}
LOGS_NO_REQUESTS = {"waitress", "daphne", "gunicorn-pywsgi"}
SERVE = """
import sys
from wsgiref.simple_server import make_server
from site_ import wsgi
make_server("127.0.0.1", int(sys.argv[1]), wsgi).serve_forever()
"""
SERVE_WERKZEUG = """
import sys
from werkzeug.serving import run_simple
from site_ import wsgi
run_simple("127.0.0.1", int(sys.argv[1]), wsgi)
"""


def site(folder: Path, text: str) -> Path:
    (folder / "site_.py").write_text(text)
    (folder / "serve.py").write_text(SERVE)
    (folder / "serve_werkzeug.py").write_text(SERVE_WERKZEUG)
    return folder


@pytest.mark.parametrize("server", COMMANDS)
def test_plain_application_is_traced(server: str, tmp_path: Path) -> None:
    """One span a request, the id on the answer; the application's lines and the server's own carry it."""
    with Program(site(tmp_path, PLAIN), *COMMANDS[server]) as program:
        answer = program.get("/items/7?token=secret", *JOINED)
        assert (200, TRACE_ID, [TRACE_ID]) == (answer.status, answer.body, answer.header("X-Trace-ID"))
        program.get("/error", *JOINED)
        wait_until(lambda: len(program.spans(TRACE_ID)) >= 2)
    assert [("GET", "/items/7", "200"), ("GET", "/error", "500")] == [
        (span["name"], span["tags"]["http.path"], span["tags"]["http.status_code"]) for span in program.spans(TRACE_ID)
    ]
    assert "boom" == program.spans(TRACE_ID)[1]["tags"]["error"]
    lines = program.log().splitlines()
    own = [line for line in lines if line.endswith((" wsgi", " asgi")) and TRACE_ID in line]
    assert 2 == len(own), program.log()
    access = [line for line in lines if "GET /items/7" in line or "/items/7 HTTP" in line]
    if server not in LOGS_NO_REQUESTS and server != "wsgiref":  # wsgiref writes to its error stream
        assert [True] == [TRACE_ID in line for line in access], program.log()


@pytest.mark.parametrize("server", COMMANDS)
def test_framework_adds_its_route_to_the_server_s_span(server: str, tmp_path: Path) -> None:
    """There still is one span, also where an ASGI server runs Flask."""
    with Program(site(tmp_path, FRAMEWORKS), *COMMANDS[server]) as program:
        answer = program.get("/items/7", *JOINED)
        assert (200, TRACE_ID, [TRACE_ID]) == (answer.status, answer.body, answer.header("X-Trace-ID"))
        wait_until(lambda: bool(program.spans(TRACE_ID)))
    route = "/items/<int:number>" if server in WSGI else "/items/{number}"
    assert [f"GET {route}"] == [span["name"] for span in program.spans(TRACE_ID)]


@pytest.mark.parametrize("server", ["gunicorn", "uvicorn", "hypercorn", "granian", "gunicorn-asgi"])
def test_application_turns_it_on_itself(server: str, tmp_path: Path) -> None:
    """In the module that the server is loading: it is not too late."""
    folder = site(tmp_path, "import clew\nclew.configure()\nclew.instrument()\n" + PLAIN)
    with Program(folder, *COMMANDS[server], run=False) as program:
        assert TRACE_ID == program.get("/items/7", *JOINED).body
        wait_until(lambda: bool(program.spans(TRACE_ID)))
    assert ["GET"] == [span["name"] for span in program.spans(TRACE_ID)]
