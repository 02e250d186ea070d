"""The README's three examples, as a newcomer runs them, and the guides' recipes for servers: all of it real."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from clew.cli._processes import Processes, free_ports
from command_line import Running, clean_environment
from documents import blocks

START_S = 60
ARRIVE_S = 30


def example(document: str, name: str, collector: Running | None = None) -> str:
    """Return the one Python block with this mark, pointed at the collector of the tests."""
    (block,) = [block for block in blocks(document, "python") if block.mark == f"example: {name}"]
    return block.text.replace("http://127.0.0.1:9411", collector.url) if collector else block.text


def ask(url: str) -> tuple[Any, str]:
    """Return a service's JSON answer and the trace id that it quotes."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.loads(answer.read()), answer.headers["X-Trace-ID"]


def wait_for(collector: Running, trace_id: str, spans: int, logs: int) -> tuple[list[Any], list[Any]]:
    """Return spans and log records of a trace, once there are so many or the deadline has passed."""
    deadline = time.monotonic() + ARRIVE_S
    while True:
        traces, _ = ask(f"{collector.url}/api/v2/traceMany?traceIds={trace_id},{'f' * 32}")  # 200 without any, too
        records, _ = ask(f"{collector.url}/api/v1/logs?trace_id={trace_id}")
        found = traces[0] if traces else []
        if (len(found) >= spans and len(records) >= logs) or time.monotonic() > deadline:
            return found, records
        time.sleep(0.05)


def test_fastapi_example_is_one_trace_with_its_log_lines(collector: Running, tmp_path: Path) -> None:
    """The FastAPI guide gives a trace of two spans, with the greeting and the access log line in it."""
    (tmp_path / "greeter.py").write_text(example("README.md", "fastapi", collector), encoding="utf-8")
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    with Processes(tmp_path) as processes:
        command = [sys.executable, "-m", "uvicorn", "greeter:app", "--port", str(port)]
        processes.start("greeter", command, environment(), tmp_path, f"{url}/hello/anybody")
        processes.wait_ready(START_S)
        answer, trace_id = ask(f"{url}/hello/Ariadne")
        spans, logs = wait_for(collector, trace_id, 2, 2)
    assert {"words": "Hello, Ariadne!"} == answer
    assert ["get /hello/{name}", "choose words"] == [span["name"] for span in spans]
    assert spans[0]["id"] == spans[1]["parentId"]
    assert {"language": "en"} == spans[1]["tags"]
    assert ["greeting Ariadne"] == [log["message"] for log in logs if log["logger"] == "greeter"]
    assert ["uvicorn.access"] == [log["logger"] for log in logs if log["logger"] != "greeter"]


def test_flask_example_under_gunicorn_is_one_trace_with_sql(collector: Running, tmp_path: Path) -> None:
    """The Flask guide on two gunicorn workers gives request and SQL in one trace; the logging recipe shows the id."""
    (tmp_path / "shelf.py").write_text(example("README.md", "flask", collector), encoding="utf-8")
    (tmp_path / "gunicorn.conf.py").write_text(example("docs/client.md", "gunicorn"), encoding="utf-8")
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    with Processes(tmp_path) as processes:
        command = [sys.executable, "-m", "gunicorn", "-w", "2", "-b", f"127.0.0.1:{port}", "shelf:app"]
        processes.start("shelf", command, environment(), tmp_path, f"{url}/books/1")
        processes.wait_ready(START_S)
        answer, trace_id = ask(f"{url}/books/7")
        spans, logs = wait_for(collector, trace_id, 2, 2)
    assert {"title": "The Histories", "number": 7} == answer
    assert ["get /books/<int:number>", "select"] == [span["name"] for span in spans]
    assert "SELECT ?, ?" == spans[1]["tags"]["db.statement"]
    assert ["looking for book 7"] == [log["message"] for log in logs if log["logger"] == "shelf"]
    written = (tmp_path / "shelf.log").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in written if trace_id in line and "GET /books/7" in line]
    assert f"[{trace_id}:{spans[0]['id']}] INFO gunicorn.access: " in line


def test_uvicorn_recipe_shows_the_trace_id(tmp_path: Path) -> None:
    """With the format of the recipe, uvicorn's access log names the trace that the response quotes."""
    (port,) = free_ports(1)
    text = example("docs/client.md", "uvicorn").replace("uvicorn.run(app,", f"uvicorn.run(app, port={port},")
    (tmp_path / "greeter.py").write_text(text, encoding="utf-8")
    url = f"http://127.0.0.1:{port}/openapi.json"
    with Processes(tmp_path) as processes:
        processes.start("greeter", [sys.executable, "greeter.py"], environment(CLEW_REPORTER="none"), tmp_path, url)
        processes.wait_ready(START_S)
        _, trace_id = ask(url)
    assert f"[{trace_id}] 127.0.0.1:" in (tmp_path / "greeter.log").read_text(encoding="utf-8")


def test_spans_example_prints_no_context_and_no_loss(tmp_path: Path) -> None:
    """After the example there is no trace any more, and nothing was dropped."""
    (tmp_path / "example.py").write_text(example("README.md", "spans"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        env=environment(CLEW_REPORTER=f"file://{tmp_path}/spans.jsonl"),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ("None\n0\n", "") == (done.stdout, done.stderr)
    spans = [json.loads(line) for line in (tmp_path / "spans.jsonl").read_text(encoding="utf-8").splitlines()]
    assert ["total", "checkout"] == [span["name"] for span in spans]
    assert {"customer": "ada", "total": "4.0", "error": "bank", "error.type": "TimeoutError"} == {
        key: value for key, value in spans[1]["tags"].items() if key != "error.stack"
    }
    assert ["paid"] == [note["value"] for note in spans[1]["annotations"]]


def environment(**variables: str) -> dict[str, str]:
    """Return a clean environment in which spans do not wait long for company."""
    return clean_environment(CLEW_FLUSH_INTERVAL="0.05", PYTHONUNBUFFERED="1", **variables)
