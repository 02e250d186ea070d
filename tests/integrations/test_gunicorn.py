"""gunicorn, prefork, in processes of its own: turned on in code and by ``clew run``, worker kinds, access log, exit."""

from __future__ import annotations

import collections
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from integrations.kit_common import DEADLINE_S, TRACE_ID, fetch, wait_until
from integrations.kit_server import JOINED

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).parents[1]

LOGGING = """
import logging
from clew.logging import TraceFormatter
handler = logging.StreamHandler()
handler.setFormatter(TraceFormatter("%(trace_id)s %(name)s %(message)s"))
for name in ("gunicorn.access", "kit.app"):
    logging.getLogger(name).addHandler(handler)
    logging.getLogger(name).setLevel(logging.INFO)
"""
IN_CODE = "import clew\nclew.configure()\nclew.instrument()\n"
APP = "from integrations.apps import flask_app\napp = flask_app()\n"
ASGI_APP = "from integrations.apps import starlette_app\napp = starlette_app()\n"


class Gunicorn:
    """A running gunicorn with two workers; its spans are in a file, its log on standard error."""

    def __init__(self, folder: Path, program: str, options: tuple[str, ...], run: bool) -> None:
        (folder / "service.py").write_text(program + LOGGING)
        self.spans_file = folder / "spans.jsonl"
        self.log_file = folder / "log"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        path = os.pathsep.join([str(folder), str(TESTS)])
        environment = {
            **os.environ,
            "PYTHONPATH": path,
            "CLEW_SERVICE": "shop",
            "CLEW_REPORTER": f"file://{self.spans_file}",
        }
        before = [str(Path(sys.executable).with_name("clew")), "run", "--"] if run else []
        command = [*before, sys.executable, "-m", "gunicorn", "-w", "2", "-b", f"127.0.0.1:{self.port}"]
        command += ["--access-logfile", os.devnull, "--graceful-timeout", "3", *options]
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen([*command, "service:app"], env=environment, stderr=log, cwd=folder)
        wait_until(lambda: "Booting worker" in self.log() and self._answers())

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log()
        try:
            return fetch(self.port, "/unavailable").status == 503
        except OSError:
            return False

    def log(self) -> str:
        return self.log_file.read_text()

    def stop(self) -> list[dict]:
        """End it as a supervisor does; return the spans of the caller's trace."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(DEADLINE_S)
        found = []
        for line in self.spans_file.read_text().splitlines() if self.spans_file.exists() else []:
            decoded = json.loads(line)
            found += decoded if isinstance(decoded, list) else [decoded]
        return [span for span in found if span["traceId"] == TRACE_ID]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[object]:
    running: list[Gunicorn] = []

    def begin(program: str, *options: str, run: bool = False) -> Gunicorn:
        running.append(Gunicorn(tmp_path, program, options, run))
        return running[-1]

    yield begin
    for gunicorn in running:
        if gunicorn.process.poll() is None:
            gunicorn.process.kill()
            gunicorn.process.wait()


@pytest.mark.parametrize(
    ("options", "run"),
    [(("-k", "sync"), False), (("-k", "gthread", "--threads", "4"), False), (("--preload",), False), ((), True)],
    ids=["sync", "gthread", "preload", "clew-run"],
)
def test_forked_workers_trace(start: type[Gunicorn], options: tuple[str, ...], run: bool) -> None:
    """Both workers' spans arrive, once, with ids of their own; access lines carry the trace id."""
    gunicorn = start(("" if run else IN_CODE) + APP, *options, run=run)  # type: ignore[call-arg]
    seen = [fetch(gunicorn.port, "/items/7", *JOINED).body.split() for _ in range(40)]
    assert {TRACE_ID} == {trace_id for trace_id, *_ in seen}
    spans = gunicorn.stop()
    assert {"GET /items/<int:id>": 40} == collections.Counter(span["name"] for span in spans)
    assert {span_id for _, span_id, *_ in seen} == {span["id"] for span in spans}
    access = re.findall(rf"^{TRACE_ID} gunicorn\.access .*GET /items/7", gunicorn.log(), re.MULTILINE)
    assert 40 == len(access)


def test_asgi_worker_traces(start: type[Gunicorn]) -> None:
    """An ASGI app on gunicorn's own ASGI worker, whose access lines are written without the app's scope."""
    gunicorn = start(IN_CODE + ASGI_APP, "-k", "asgi")
    assert TRACE_ID == fetch(gunicorn.port, "/items/7", *JOINED).body.split()[0]
    assert ["GET /items/{id}"] == [span["name"] for span in gunicorn.stop()]
    assert f"{TRACE_ID} kit.app item" in gunicorn.log()


def test_recycled_workers_lose_nothing(start: type[Gunicorn]) -> None:
    """With --max-requests every worker ends after a few requests; each delivers what it has."""
    gunicorn = start(IN_CODE + APP, "--max-requests", "3")
    assert [200] * 30 == [fetch(gunicorn.port, "/items/7", *JOINED).status for _ in range(30)]
    assert 30 == len(gunicorn.stop())
