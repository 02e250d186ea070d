"""`clew run` with real servers: traced without a line of code, in every worker, and never in the program's way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clew.cli._processes import Processes, free_ports
from command_line import clean_environment

CLEW_RUN = [sys.executable, "-m", "clew.cli", "run"]
WAIT_S = 30
ASGI_APP = """\
import logging, os, sqlite3
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

log = logging.getLogger("app")
logging.basicConfig(level="INFO")

def pid(request):
    log.info("asked for the pid")
    with sqlite3.connect(":memory:") as connection:
        connection.execute("SELECT 42")
    return PlainTextResponse(str(os.getpid()))

app = Starlette(routes=[Route("/pid", pid)])
"""
WSGI_APP = """\
import logging, os
from flask import Flask

app = Flask(__name__)
logging.getLogger("app").setLevel("INFO")

@app.get("/pid")
def pid():
    logging.getLogger("app").info("asked for the pid")
    return str(os.getpid())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with the two applications, which know nothing of clew."""
    (tmp_path / "shop_asgi.py").write_text(ASGI_APP)
    (tmp_path / "shop_wsgi.py").write_text(WSGI_APP)
    return tmp_path


Start = Callable[..., str]


@pytest.fixture
def serve(folder: Path) -> Iterator[Start]:
    """Give a function that starts a server beneath `clew run` and returns its address."""
    with Processes(folder) as processes:

        def start(*command: str) -> str:
            (port,) = free_ports(1)
            url = f"http://127.0.0.1:{port}"
            options = ["--reporter", f"file://{folder}/out.jsonl", "--logs", "--"]
            words = [word.replace("PORT", str(port)) for word in command]
            processes.start("server", [*CLEW_RUN, *options, *words], clean_environment(), folder, f"{url}/pid")
            processes.wait_ready(WAIT_S)
            return url

        yield start


def get(url: str) -> tuple[str, str]:
    """Return body and trace id of a response."""
    with urllib.request.urlopen(f"{url}/pid", timeout=WAIT_S) as answer:
        return answer.read().decode(), answer.headers["X-Trace-ID"]


def get_from_workers(url: str, count: int) -> dict[str, str]:
    """Ask until this many processes have answered; return a trace id for each."""
    deadline = time.monotonic() + WAIT_S
    seen: dict[str, str] = {}
    while len(seen) < count:
        assert time.monotonic() < deadline, f"only {seen} answered"
        pid, trace_id = get(url)
        seen[pid] = trace_id
    return seen


def reported(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the spans and log records in the reporter's file."""
    path = folder / "out.jsonl"
    spans: list[dict[str, Any]] = []
    logs: list[dict[str, Any]] = []
    for line in path.read_text().splitlines() if path.exists() else []:
        item = json.loads(line)
        logs.extend(item["logs"]) if "logs" in item else spans.append(item)
    return spans, logs


def wait_reported(folder: Path, trace_ids: set[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return spans and records once a server span and a log record of each of these traces is there."""
    deadline = time.monotonic() + WAIT_S
    while True:
        spans, logs = reported(folder)
        served = {span["traceId"] for span in spans if span.get("kind") == "SERVER"}
        if trace_ids <= served and trace_ids <= {log.get("traceId") for log in logs}:
            return spans, logs
        assert time.monotonic() < deadline, (spans, logs)
        time.sleep(0.05)


UVICORN = [sys.executable, "-m", "uvicorn", "--host", "127.0.0.1", "--port", "PORT", "shop_asgi:app"]
GUNICORN = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:PORT", "shop_wsgi:app"]


@pytest.mark.parametrize(
    ("command", "workers", "service", "name"),
    [
        (UVICORN, 1, "shop_asgi", "GET /pid"),
        ([*UVICORN, "--workers", "2"], 2, "shop_asgi", "GET /pid"),
        ([*UVICORN, "--reload"], 1, "shop_asgi", "GET /pid"),
        ([*GUNICORN, "--workers", "2"], 2, "shop_wsgi", "GET /pid"),
        ([*GUNICORN, "--workers", "2", "--preload"], 2, "shop_wsgi", "GET /pid"),
    ],
    ids=["uvicorn", "uvicorn-workers", "uvicorn-reload", "gunicorn", "gunicorn-preload"],
)
def test_every_worker_of_a_server_is_traced(
    folder: Path, serve: Start, command: list[str], workers: int, service: str, name: str
) -> None:
    """Spans and log lines of each worker, under the application's name, with the id that the response quotes."""
    url = serve(*command)
    answered = get_from_workers(url, workers)
    trace_ids = set(answered.values())
    spans, logs = wait_reported(folder, trace_ids)
    served = [span for span in spans if span.get("kind") == "SERVER" and span["traceId"] in trace_ids]
    assert {(service, name)} == {(span["localEndpoint"]["serviceName"], span["name"]) for span in served}
    assert workers == len(served)
    said = [log for log in logs if log.get("traceId") in trace_ids and log["logger"] == "app"]
    assert {"asked for the pid"} == {log["message"] for log in said}


def test_a_reloaded_application_is_traced_again(folder: Path, serve: Start) -> None:
    """The reloader starts a new process; the trace goes on in it."""
    url = serve(*UVICORN, "--reload")
    before, _ = get(url)
    deadline = time.monotonic() + WAIT_S
    while (answer := _get_or_none(url)) is None or answer[0] == before:
        assert time.monotonic() < deadline
        if answer is not None:
            (folder / "shop_asgi.py").write_text(ASGI_APP + f"# {time.monotonic_ns()}\n")
        time.sleep(0.3)
    wait_reported(folder, {answer[1]})


def _get_or_none(url: str) -> tuple[str, str] | None:
    try:
        return get(url)
    except OSError:
        return None


def test_inner_spans_and_the_programs_log_format_come_by_themselves(folder: Path, serve: Start) -> None:
    """SQL beneath the request; a plain `basicConfig()` shows the ids."""
    url = serve(*UVICORN)
    _, trace_id = get(url)
    spans, _ = wait_reported(folder, {trace_id})
    mine = {span["name"]: span for span in spans if span["traceId"] == trace_id}
    assert {"GET /pid", "SELECT"} == set(mine)
    assert mine["GET /pid"]["id"] == mine["SELECT"]["parentId"]
    assert f"[{trace_id}:{mine['GET /pid']['id']}] INFO app: asked for the pid" in (folder / "server.log").read_text()


def run(
    folder: Path, *command: str, options: tuple[str, ...] = (), **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a program beneath `clew run` to its end."""
    words = [*CLEW_RUN, "--reporter", f"file://{folder}/out.jsonl", *options, "--", *command]
    env = clean_environment(**variables)
    return subprocess.run(words, capture_output=True, text=True, timeout=60, env=env, cwd=folder, check=False)


def test_a_sitecustomize_of_the_program_still_runs(folder: Path) -> None:
    """The one that Python would have found, under its own name."""
    (folder / "own").mkdir()
    (folder / "own" / "sitecustomize.py").write_text("print('own sitecustomize')")
    script = "import sitecustomize, clew; print(sitecustomize.__file__, clew.stats()['reported'])"
    done = run(folder, sys.executable, "-c", script, PYTHONPATH=str(folder / "own"))
    assert (0, "") == (done.returncode, done.stderr)
    own = ["own sitecustomize"]  # in `clew run` itself, which is a Python too, and in the program
    assert [*own, *own, f"{folder}/own/sitecustomize.py 0"] == done.stdout.splitlines()


@pytest.mark.parametrize(
    ("options", "variables", "said"),
    [
        (("--sampler", "11/h"), {}, "sampler='11/h'"),
        (("--reporter", "carrier-pigeon://x"), {}, "reporter='carrier-pigeon://x'"),
        (("--propagate", "w4c"), {}, "propagate='w4c'"),
        (("--tags", "prod"), {}, "tags='prod'"),
        ((), {"CLEW_QUEUE_SIZE": "many"}, "queue_size='many'"),
        ((), {"CLEW_LOGS": "maybe"}, "logs='maybe'"),
        ((), {"CLEW_DEBUG": "maybe"}, "debug='maybe'"),
    ],
)
def test_a_wrong_option_is_an_error_before_the_program_starts(
    folder: Path, options: tuple[str, ...], variables: dict[str, str], said: str
) -> None:
    """One sentence for whoever types it; nothing runs."""
    done = run(folder, sys.executable, "-c", "open('started', 'w')", options=options, **variables)
    assert 2 == done.returncode
    assert done.stderr.startswith(f"clew: {said}")
    assert "Traceback" not in done.stderr
    assert not (folder / "started").exists()


def test_an_option_that_goes_wrong_later_is_one_line_and_the_program_goes_on(folder: Path) -> None:
    """A child with a spoilt variable must not be taken down."""
    script = (
        "import os, subprocess, sys; os.environ['CLEW_SAMPLER'] = 'sometimes'; "
        'subprocess.run([sys.executable, "-c", "print(7)"], check=True)'
    )
    done = run(folder, sys.executable, "-c", script)
    assert (0, "7\n") == (done.returncode, done.stdout)
    assert done.stderr.startswith("clew run: this program is not traced (ValueError: sampler='sometimes'")
    assert 1 == done.stderr.count("\n")


PLACE = """
import json, os, sys
names = ('sitecustomize' in sys.modules, sys.argv, sys.path, sorted(vars(sys.flags.__class__)), tuple(sys.flags))
variables = {k: v for k, v in os.environ.items() if not k.startswith(('CLEW_', 'PYTHONPATH', 'COV_'))}
print(json.dumps([names, variables], sort_keys=True))
"""


@pytest.mark.parametrize("path", [None, "", ":/x", "/x:", "own::/x", ":", "./own"])
@pytest.mark.parametrize("how", [("place.py", "-x", "a b"), ("-m", "place"), ("-P", "place.py")])
def test_the_program_finds_its_place_as_ever(folder: Path, path: str | None, how: tuple[str, ...]) -> None:
    """Search path (an empty part is the current directory), arguments, flags, variables, modules: as without clew."""
    if "-P" in how and sys.version_info < (3, 11):
        how = how[1:]
    (folder / "place.py").write_text(PLACE)
    variables = {} if path is None else {"PYTHONPATH": path}
    plain = subprocess.run(
        [sys.executable, *how],
        capture_output=True,
        text=True,
        timeout=60,
        env=clean_environment(**variables),
        cwd=folder,
        check=True,
    )
    assert plain.stdout == run(folder, sys.executable, *how, **variables).stdout


@pytest.mark.parametrize("name", ["site.py", "build.py", "venv.py", "sysconfig.py", "pip.py", "build"])
def test_a_script_with_the_name_of_a_tool_is_traced(folder: Path, name: str) -> None:
    """Only Python's own tools are left alone."""
    (folder / "scripts").mkdir()
    (folder / "scripts" / name).write_text("import clew\nwith clew.start_span('work'): pass\n")
    done = run(folder, sys.executable, f"scripts/{name}")
    assert (0, "") == (done.returncode, done.stderr)
    assert ["work"] == [span["name"] for span in reported(folder)[0]]


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (("-I",), "`python -I` ignores PYTHONPATH"),
        (("-uE",), "`python -E` ignores PYTHONPATH"),
        (("-X", "dev", "-S"), "`python -S` does not run sitecustomize"),
    ],
)
def test_a_python_that_shuts_clew_out_is_said_once(folder: Path, flags: tuple[str, ...], why: str) -> None:
    """The program runs, and its user knows that it is not traced."""
    done = run(folder, sys.executable, *flags, "-c", "print(7)")
    assert (0, "7\n") == (done.returncode, done.stdout)
    assert f"clew run: this program is not traced: {why}, by which clew gets in\n" == done.stderr


def test_a_script_whose_first_line_shuts_clew_out_is_said(folder: Path) -> None:
    """As those of a distribution's own packages do."""
    script = folder / "tool"
    script.write_text(f"#!{sys.executable} -Es\nprint(7)\n")
    script.chmod(0o755)
    done = run(folder, "./tool")
    assert (0, "7\n") == (done.returncode, done.stdout)
    assert (
        "clew run: this program is not traced: `python -E` ignores PYTHONPATH, by which clew gets in\n" == done.stderr
    )


def test_explain_says_what_is_hooked_and_what_is_not(folder: Path) -> None:
    """On standard error, by the option and by the variable; quiet without them."""
    (folder / "tornado.py").write_text("")
    (folder / "requests.py").write_text("__version__ = '0.1'")
    script = "import sqlite3, requests, tornado"
    for options, variables in ((("--explain",), {}), ((), {"CLEW_DEBUG": "1"})):
        done = run(folder, sys.executable, "-c", script, options=options, **variables)
        lines = [line.partition("]: ")[2] for line in done.stderr.splitlines()]
        assert "hooked sqlite3" in lines
        assert "tornado is not traced: clew has no hook for it yet" in lines
        assert any(line.startswith("requests 0.1 is not traced: AttributeError") for line in lines)
        assert f"service 'python', spans to file://{folder}/out.jsonl" == lines[0]
        assert any(line.startswith("never imported: asgi, django, ") for line in lines)
    (folder / "requests.py").unlink()
    assert "" == run(folder, sys.executable, "-c", script.replace("requests, ", "")).stderr


def test_nothing_is_imported_or_configured_that_the_program_does_not_want(folder: Path) -> None:
    """No library, no log handler, no thread; `basicConfig` still works; the bootstrap is not on the path."""
    script = (
        "import logging, sys, threading\n"
        "libraries = ('sqlite3', 'httpx', 'requests', 'flask', 'starlette', 'aiohttp', 'click', 'rich')\n"
        "print([name for name in libraries if name in sys.modules])\n"
        "print(logging.getLogger().handlers, threading.active_count(), [p for p in sys.path if 'bootstrap' in p])\n"
        "logging.basicConfig(format='mine: %(message)s', level='INFO', stream=sys.stdout)\n"
        "logging.info('hello')\n"
    )
    done = run(folder, sys.executable, "-c", script, options=("--logs",))
    assert ["[]", "[] 1 []", "mine: hello"] == done.stdout.splitlines(), done.stderr


def test_children_of_multiprocessing_are_the_same_service(folder: Path) -> None:
    """Spawned processes are traced under the parent's name, and deliver before they end."""
    (folder / "jobs.py").write_text(
        "import clew, multiprocessing\n"
        "def work():\n"
        "    with clew.start_span('work'): pass\n"
        "if __name__ == '__main__':\n"
        "    child = multiprocessing.get_context('spawn').Process(target=work)\n"
        "    child.start(); child.join()\n"
    )
    done = run(folder, sys.executable, "jobs.py")
    assert (0, "") == (done.returncode, done.stderr)
    assert [("jobs", "work")] == [(s["localEndpoint"]["serviceName"], s["name"]) for s in reported(folder)[0]]


def test_programs_of_a_shell_name_themselves(folder: Path) -> None:
    """`clew run -- sh -c` starts several services; python's own tools among them are left alone."""
    for name in ("first", "second"):
        (folder / f"{name}.py").write_text("import clew\nwith clew.start_span('work'): pass\n")
    python = sys.executable
    done = run(folder, "sh", "-c", f"{python} first.py; {python} -m second; {python} -m compileall -q first.py")
    assert (0, "") == (done.returncode, done.stderr)
    assert ["first", "second"] == [span["localEndpoint"]["serviceName"] for span in reported(folder)[0]]


def test_a_python_without_clew_is_traced_by_the_one_that_runs_it(folder: Path) -> None:
    """clew itself becomes importable there, what is installed beside it does not."""
    other = folder / "other"
    venv.create(other, symlinks=True)
    script = (
        "import importlib.util as u, clew\n"
        "with clew.start_span('elsewhere'): pass\n"
        "print([name for name in ('click', 'rich', 'starlette') if u.find_spec(name)])"
    )
    done = run(folder, str(other / "bin" / "python"), "-c", script)
    assert (0, "[]\n", "") == (done.returncode, done.stdout, done.stderr)
    assert ["elsewhere"] == [span["name"] for span in reported(folder)[0]]


def test_turned_off_is_off(folder: Path) -> None:
    """CLEW_ENABLED=0: nothing is hooked."""
    script = (
        "import sqlite3; sqlite3.connect(':memory:').execute('select 1'); import clew; print(clew.stats()['reported'])"
    )
    done = run(folder, sys.executable, "-c", script, CLEW_ENABLED="0")
    assert (0, "0\n", "") == (done.returncode, done.stdout, done.stderr)
    assert not os.path.exists(folder / "out.jsonl")
