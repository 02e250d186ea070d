"""Every integration in an interpreter that has imported what its user would: turned on before, after, from outside.

What each of them does in detail its own tests say. Here: that it is there at all, whatever the order, and brings
nothing into the program that the program did not bring itself.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from integrations.fresh import MARK, WAYS, run_fresh

SERVE = """
import http.server, threading
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print(bool(self.headers["X-Trace-ID"]), flush=True)  # first: the answer may end the program
        self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers(); self.wfile.write(b"ok")
    def log_message(self, *args): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/items?token=secret"
"""
ASGI = """
import asyncio
scope = {"type": "http", "method": "GET", "path": "/items/7", "raw_path": b"/items/7", "root_path": "", "headers": [],
         "query_string": b"", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "scheme": "http",
         "http_version": "1.1", "asgi": {"version": "3.0"}}
async def receive(): return {"type": "http.request", "body": b"", "more_body": False}
async def send(message):
    if message["type"] == "http.response.start": print(b"x-trace-id" in dict(message["headers"]))
asyncio.run(app(scope, receive, send))
"""
PROGRAMS: dict[str, tuple[str, list[str]]] = {
    "flask": (
        "import flask\n"
        + MARK
        + """
app = flask.Flask("x")
@app.get("/items/<int:number>")
def item(number): return "ok"
print("X-Trace-ID" in app.test_client().get("/items/7").headers)
""",
        ["GET /items/<int:number>"],
    ),
    "django": (
        """
import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])
urlpatterns = [path("items/<int:number>", lambda request, number: HttpResponse("ok"))]
app = get_wsgi_application()
"""
        + MARK
        + """
environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/items/7", "SERVER_NAME": "x", "SERVER_PORT": "80"}
import io
environ |= {"wsgi.input": io.BytesIO(), "wsgi.url_scheme": "http"}
app(environ, lambda status, headers, *_: print("X-Trace-ID" in dict(headers))).close()
""",
        ["GET /items/<int:number>"],
    ),
    "starlette": (
        """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
async def item(request): return PlainTextResponse("ok")
app = Starlette(routes=[Route("/items/{number}", item)])
"""
        + MARK
        + ASGI,
        ["GET /items/{number}"],
    ),
    "fastapi": (
        """
import fastapi
app = fastapi.FastAPI()
@app.get("/items/{number}")
def item(number: int): return number
"""
        + MARK
        + ASGI,
        ["GET /items/{number}"],
    ),
    "aiohttp": (
        "import aiohttp, asyncio\nfrom aiohttp import web\n"
        + MARK
        + """
async def item(request): return web.Response(text="ok")
async def main():
    app = web.Application(); app.router.add_get("/items/{number}", item)
    runner = web.AppRunner(app); await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0); await site.start()
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/items/7") as answer:
        print("X-Trace-ID" in answer.headers)
    await runner.cleanup()
asyncio.run(main())
""",
        ["GET", "GET /items/{number}"],
    ),
    "httpx": ("import httpx\n" + MARK + SERVE + "httpx.get(url)\n", ["GET"]),
    "httpx-async": (
        "import asyncio, httpx\n"
        + MARK
        + SERVE
        + "async def main():\n    async with httpx.AsyncClient() as client: await client.get(url)\n"
        + "asyncio.run(main())\n",
        ["GET"],
    ),
    "requests": ("import requests\n" + MARK + SERVE + "requests.get(url)\n", ["GET"]),
    "sqlite3": (
        "import sqlite3\n"
        + MARK
        + 'import clew; clew.start_span("work")\n'
        + 'print(sqlite3.connect(":memory:").execute("SELECT 1").fetchone() == (1,))\n',
        ["SELECT"],
    ),
}
END = """
import os, sys
places = [getattr(module, "__file__", None) or "" for name, module in list(sys.modules.items()) if "." not in name]
print(*sorted({place.partition("site-packages" + os.sep)[2].partition(os.sep)[0] for place in places} - {""}))
"""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("program", "names"), PROGRAMS.values(), ids=PROGRAMS)
def test_integration_works_in_a_program_of_its_own(program: str, names: list[str], way: str, tmp_path: Path) -> None:
    """Its spans arrive with the header sent, and no library is imported that the program does not import."""
    ended = run_fresh(program + END, tmp_path, way)
    *said, imported = ended.lines
    assert ["True"] == said, ended.errors
    assert names == sorted(span["name"] for span in ended.spans)
    assert "secret" not in str(ended.spans)
    if way == "first":
        assert run_fresh(program + END, tmp_path, "none").lines[-1] == imported


LOG = """
import logging, sys
from clew.logging import TraceFormatter
handler = logging.StreamHandler(sys.stdout); handler.setFormatter(TraceFormatter("%(name)s %(trace_id)s"))
logging.basicConfig(level="INFO", handlers=[handler])
"""
SERVERS = {
    "werkzeug": (
        "werkzeug",
        """
import flask, threading, urllib.request, werkzeug.serving
app = flask.Flask("x")
@app.get("/")
def index(): return "ok"
server = werkzeug.serving.make_server("127.0.0.1", 0, app)
threading.Thread(target=server.serve_forever, daemon=True).start()
"""
        + MARK
        + """
print(urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/").headers["X-Trace-ID"])
server.shutdown()
""",
    ),
    "uvicorn": (
        "uvicorn.access",
        """
import threading, time, urllib.request, uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
async def index(request): return PlainTextResponse("ok")
app = Starlette(routes=[Route("/", index)])
"""
        + MARK
        + """
server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
thread = threading.Thread(target=server.run); thread.start()
while not server.started: time.sleep(0.01)
port = server.servers[0].sockets[0].getsockname()[1]
print(urllib.request.urlopen(f"http://127.0.0.1:{port}/").headers["X-Trace-ID"])
server.should_exit = True; thread.join()
""",
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("logger", "program"), SERVERS.values(), ids=SERVERS)
def test_access_lines_of_a_server_have_the_request_s_id(logger: str, program: str, way: str, tmp_path: Path) -> None:
    """Also where the server was imported, or even made, before it was turned on."""
    program = program.replace(MARK, MARK + LOG) if way == "last" else LOG + program
    lines = run_fresh(program, tmp_path, way).lines
    (trace_id,) = (line for line in lines if len(line) == 32)
    assert f"{logger} {trace_id}" in lines


FOREIGN = """
import asyncio, functools, inspect, multiprocessing.pool, queue, threading
import concurrent.futures.thread, concurrent.futures.process
import aiohttp, flask, gevent.threadpool, gunicorn.glogging, httpx, requests, sqlite3, starlette.applications
import aiomysql, asyncpg, psycopg, pymemcache, pymysql, psycopg2
import psycopg_pool, redis, redis.asyncio, redis.cluster, sqlalchemy
import aiosqlite, apscheduler.schedulers.base, grpc.aio, uvicorn.protocols.http.h11_impl, werkzeug.serving
from clew import _patch
"""


def test_every_hook_goes_quiet_beneath_a_foreign_patch_and_comes_back(tmp_path: Path) -> None:
    """All of them, not those that somebody thought of: theirs stays, ours passes on, and back again."""
    program = (
        "import clew\n"
        + FOREIGN
        + """
clew.configure(); clew.instrument()
hooks = [(hook, owner_name[1]) for owner_name, hooks in list(_patch._hooks.items()) for hook in hooks]
owners = {}
for hook, name in hooks:
    wrapper = hook.wrapper
    before = hook._found if hook._found is not _patch._ABSENT else getattr(super(hook._owner, hook._owner), name)
    plain = getattr(before, "__func__", before)
    assert inspect.iscoroutinefunction(wrapper) == inspect.iscoroutinefunction(plain) or (
        asyncio.iscoroutinefunction(wrapper) == asyncio.iscoroutinefunction(plain)), name
    assert wrapper.__name__ == plain.__name__, name
    @functools.wraps(wrapper)
    def foreign(*args, wrapper=wrapper, **kwargs): return wrapper(*args, **kwargs)
    setattr(hook._owner, name, foreign); owners[hook, name] = foreign
clew.uninstrument()
print(len(hooks) > 30)
stays = {(aiohttp.ClientResponse, name) for name in ("_response_eof", "close", "release")}  # ends calls under way
for (hook, name), foreign in owners.items():
    assert vars(hook._owner)[name] is foreign, name
    assert hook.wrapper.__code__.co_name == "pass_on" or (hook._owner, name) in stays, name
queue.Queue().put(1); list(multiprocessing.pool.ThreadPool(1).imap(str, [1]))
clew.instrument()
for (hook, name), foreign in owners.items():
    assert vars(hook._owner)[name] is foreign, name
    assert hook.wrapper.__code__ is hook.code, name
print("quiet and back")
"""
    )
    assert ["True", "quiet and back"] == run_fresh(program, tmp_path, "none").lines
