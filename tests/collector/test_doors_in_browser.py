"""The doors as a real browser meets them: a page of another origin, a name that leads to loopback, a token typed in."""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from clew.collector.settings import Token
from served import served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

    from clew.collector.store.clickhouse import ClickHouseStore

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
REQUIRED = os.environ.get("CLEW_TEST_BROWSER") == "required"  # as in CI, which installs one

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(
        CHROMIUM is None and not REQUIRED, reason="needs Chromium: apt-get install chromium (CI does, and runs this)"
    ),
]

SECRET = "secret-of-a-user"
ATTACK = """<!doctype html><title>other</title><body><pre id=out></pre><img id=image src="TARGET/favicon.ico"><script>
const out = document.getElementById("out");
const say = (what) => { out.textContent += what + "\\n"; };
const body = JSON.stringify([{traceId: "a", id: "b", name: "forged"}]);
(async () => {
  for (const path of ["/api/v2/services", "/api/v1/traces", "/api/v1/logs", "/metrics", "/health"]) {
    try { say(`read ${path} ${await (await fetch(`TARGET${path}`)).text()}`); } catch { say(`blocked ${path}`); }
  }
  const write = (headers, mode) => fetch("TARGET/api/v2/spans", {method: "POST", body, headers, mode})
    .then((answer) => say(`sent ${answer.type} ${answer.status}`), () => say("blocked send"));
  await write({"Content-Type": "text/plain"}, "no-cors");
  await write({"Content-Type": "application/json"}, "cors");
  const events = new EventSource("TARGET/api/v1/tail");
  events.onopen = () => { say("read tail"); events.close(); };
  events.onerror = () => { say("blocked tail"); events.close(); document.title = "done"; };
})();
</script>"""


@pytest.fixture
def client(store: ClickHouseStore, tmp_path: Path) -> Iterator[httpx.Client]:
    """A collector as it is by default, with one trace that holds a user's secret."""
    with served(store, tmp_path) as opened:
        span = {"traceId": "c", "id": "d", "localEndpoint": {"serviceName": SECRET}}
        assert 202 == opened.post("/api/v2/spans", json=[span]).status_code
        yield opened


@contextlib.contextmanager
def page(text: str) -> Iterator[int]:
    """Serve a page on a port of its own, which makes it another origin."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()


def look_at(address: str, profile: Path, *flags: str) -> str:
    """Return the document after its scripts have run."""
    assert CHROMIUM is not None, "Chromium is missing: apt-get install chromium"
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--virtual-time-budget=8000", "--dump-dom", f"--user-data-dir={profile}", *flags, address,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    return done.stdout


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "evil.example"])
def test_page_of_another_origin_gets_nothing(client: httpx.Client, tmp_path: Path, host: str) -> None:
    """Nor can it write, also by requests for which a browser asks no permission."""
    with page(ATTACK.replace("TARGET", str(client.base_url).rstrip("/"))) as port:
        document = look_at(f"http://{host}:{port}/", tmp_path, "--host-resolver-rules=MAP evil.example 127.0.0.1")
    found = document.partition('<pre id="out">')[2].partition("</pre>")[0].splitlines()
    assert [
        "blocked /api/v2/services", "blocked /api/v1/traces", "blocked /api/v1/logs", "blocked /metrics",
        "blocked /health", "sent opaque 0", "blocked send", "blocked tail",
    ] == found  # fmt: skip
    assert 404 == client.get("/api/v2/trace/a").status_code


def test_page_by_a_rebinding_name_gets_nothing(client: httpx.Client, tmp_path: Path) -> None:
    """A name of the attacker's that now leads to the collector: same origin to the browser, and refused by it."""
    port = client.base_url.port
    rules = "--host-resolver-rules=MAP evil.example 127.0.0.1"
    for path in ("/", "/api/v2/services", "/api/v1/traces"):
        document = look_at(f"http://evil.example:{port}{path}", tmp_path, rules)
        assert "does not go by the name" in document
        assert SECRET not in document


def test_own_page_reads(client: httpx.Client, tmp_path: Path) -> None:
    """By either name of loopback."""
    for host in ("127.0.0.1", "localhost"):
        assert SECRET in look_at(f"http://{host}:{client.base_url.port}/", tmp_path)


def test_token_of_the_address_shows_the_page_and_is_gone(store: ClickHouseStore, tmp_path: Path) -> None:
    """The page then reads by its cookie, which no script sees; without it there is only the form."""
    with served(store, tmp_path, token=(Token("t0ken"),)) as client:
        span = {"traceId": "c", "id": "d", "localEndpoint": {"serviceName": SECRET}}
        headers = {"Authorization": "Bearer t0ken"}
        assert 202 == client.post("/api/v2/spans", json=[span], headers=headers).status_code
        closed = look_at(f"{client.base_url}/", tmp_path / "first")
        assert "This collector wants its token" in closed
        assert SECRET not in closed
        opened = look_at(f"{client.base_url}/?token=t0ken", tmp_path / "second")
        assert SECRET in opened
        assert "t0ken" not in opened
