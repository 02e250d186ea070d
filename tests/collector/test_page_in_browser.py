"""The page as a person sees it: in a real Chromium, with a trace whose every text is hostile."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

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

TRACE = "463ac35c9f6413ad48485a3953bb6124"
HOSTILE = "<img src=x onerror=document.title='broken'>"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=8000",  # until the page's own requests are answered and drawn
    "--dump-dom",
)


@pytest.fixture(scope="module")
def client(engine: ClickHouseStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A collector that holds one trace: a failed call to a path, with a log line, all of it hostile text."""
    engine.truncate()
    now_us = time.time_ns() // 1_000
    root = {
        "traceId": TRACE,
        "id": "a2fb4a1d1a96d312",
        "kind": "SERVER",
        "name": f"get /{HOSTILE}",
        "timestamp": now_us,
        "duration": 20_000,
        "localEndpoint": {"serviceName": HOSTILE},
    }
    call = {
        "traceId": TRACE,
        "parentId": root["id"],
        "id": "b2fb4a1d1a96d312",
        "kind": "CLIENT",
        "name": "GET",
        "timestamp": now_us + 1_000,
        "duration": 10_000,
        "localEndpoint": {"serviceName": HOSTILE},
        "tags": {"http.url": "http://stock:80/items/7?token=x", "error": HOSTILE},
    }
    log = {"timestamp": now_us + 5_000, "traceId": TRACE, "id": call["id"], "service": "shop", "level": "ERROR"}
    with served(engine, tmp_path_factory.mktemp("browser")) as client:
        assert 202 == client.post("/api/v2/spans", json=[root, call]).status_code
        logs = {"logs": [{**log, "logger": "shop", "message": HOSTILE}]}
        assert 202 == client.post("/api/v1/logs", json=logs).status_code
        yield client


def look_at(client: httpx.Client, place: str, profile: Path) -> str:
    """Return the document after its scripts have run."""
    assert CHROMIUM is not None, "Chromium is missing: apt-get install chromium"
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", f"{client.base_url}{place}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    return done.stdout


def test_the_list_shows_the_trace_and_obeys_no_text_in_it(client: httpx.Client, tmp_path: Path) -> None:
    """Names of spans and services are text, whatever they look like."""
    document = look_at(client, "/", tmp_path)
    assert "get /&lt;img src=x onerror=" in document
    assert "1 error" in document
    assert '<img src="x"' not in document


def test_a_trace_is_drawn_with_its_calls_and_log_lines(client: httpx.Client, tmp_path: Path) -> None:
    """The waterfall, the path of the call, the error and the line beneath; nothing of it runs."""
    document = look_at(client, f"/#/trace/{TRACE}", tmp_path)
    assert TRACE in document
    assert 2 == document.count('role="treeitem"')
    assert "/items/7" in document
    assert "token=x" not in document.replace("http://stock:80/items/7?token=x", "")
    assert "document.title='broken'&gt;" in document
    assert '<img src="x"' not in document
    assert "<title>broken</title>" not in document


def test_the_beginning_of_an_id_leads_to_its_trace(client: httpx.Client, tmp_path: Path) -> None:
    """When several begin alike, they are listed."""
    twin = {"traceId": f"{TRACE[:8]}{'0' * 23}1", "id": "1", "timestamp": 1}
    assert 2 == look_at(client, f"/#/trace/{TRACE[:31]}", tmp_path).count('role="treeitem"')
    assert 202 == client.post("/api/v2/spans", json=[twin]).status_code
    document = look_at(client, f"/#/trace/{TRACE[:8]}", tmp_path)
    assert all(f'href="#/trace/{id}"' in document for id in (TRACE, twin["traceId"]))
