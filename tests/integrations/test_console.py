"""What servers print under ``clew run``: their own lines, with ids where there are some, in processes of their own."""

from __future__ import annotations

import contextlib
import os
import re
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
PROGRAM = """
from integrations.apps import flask_app, starlette_app
app, asgi = flask_app(), starlette_app()
"""
IDS = re.compile(r"\[([0-9a-f]{32}|-):([0-9a-f]{16}|-)\] ")


@contextlib.contextmanager
def printed(folder: Path, *command: str, program: str = PROGRAM, run: bool = True) -> Iterator[list[str]]:
    """Start a server; yield a list that holds, at the end, the lines that it printed of two requests of one trace."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    (folder / "service.py").write_text(program.replace("PORT", port))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(TESTS)]), "PYTHONUNBUFFERED": "1"}
    environment |= {"CLEW_REPORTER": "none", "FLASK_APP": "service:app"}
    tool = [str(Path(sys.executable).with_name("clew")), "run", "--"] if run else []
    output, access_log = folder / "output", folder / "access.log"
    access_log.touch()
    with output.open("wb") as file:
        process = subprocess.Popen(
            [*tool, sys.executable, "-m", *(part.replace("PORT", port) for part in command)],
            env=environment, cwd=folder, stdout=file, stderr=file,
        )  # fmt: skip
    lines: list[str] = []
    try:
        wait_until(lambda: _answers(process, int(port), output))
        for path in ("/items/7", "/error"):
            fetch(int(port), path, *JOINED)
        for path in ("/items/7", "/error"):
            wait_until(lambda path=path: path in output.read_text() + access_log.read_text())  # type: ignore[misc]
        yield lines
    finally:
        process.terminate()
        process.wait(DEADLINE_S)
        lines += (output.read_text() + access_log.read_text()).splitlines()


def _answers(process: subprocess.Popen[bytes], port: int, output: Path) -> bool:
    assert process.poll() is None, output.read_text()
    try:
        return fetch(port, "/unavailable").status == 503
    except OSError:
        return False


GUNICORN = ("gunicorn", "-b", "127.0.0.1:PORT", "--access-logfile", "-")
SERVERS = {
    "flask": ("flask", "run", "-p", "PORT"),
    "flask-debug": ("flask", "run", "--debug", "--no-reload", "-p", "PORT"),
    "uvicorn": ("uvicorn", "service:asgi", "--port", "PORT"),
    "hypercorn": ("hypercorn", "-b", "127.0.0.1:PORT", "--access-logfile", "-", "service:asgi"),
    "gunicorn-sync": (*GUNICORN, "service:app"),
    "gunicorn-gthread": (*GUNICORN, "-k", "gthread", "service:app"),
    "gunicorn-gevent": (*GUNICORN, "-k", "gevent", "service:app"),
    "gunicorn-uvicorn": (*GUNICORN, "-k", "uvicorn.workers.UvicornWorker", "service:asgi"),
}


@pytest.mark.parametrize("server", SERVERS)
def test_lines_of_a_request_show_its_ids_once(tmp_path: Path, server: str) -> None:
    """In the server's own format; what it says outside of a request stays as it is."""
    with printed(tmp_path, *SERVERS[server]) as lines:
        pass
    access = [line for line in lines if re.search(r"GET /(items/7|error) .*(200|500)", line)]
    assert 2 == len(access), lines
    assert [[TRACE_ID]] * 2 == [[found[1] for found in IDS.finditer(line)] for line in access]
    assert [] == [line for line in lines if "[-:-]" in line]
    reported = [line for line in lines if "Exception " in line or "Error in ASGI" in line]
    assert server == "flask-debug" or reported
    assert all(TRACE_ID in line for line in reported), reported


@pytest.mark.parametrize(
    ("command", "program"),
    [
        ((*GUNICORN, "--access-logformat", "mine: %(r)s", "service:app"), PROGRAM),
        (("service",), PROGRAM + """
import logging, sys, uvicorn
from uvicorn.config import LOGGING_CONFIG
LOGGING_CONFIG["formatters"]["access"] = {"format": "mine: %(message)s"}
uvicorn.run(asgi, port=int("PORT"))
"""),
        (("service",), PROGRAM + """
import logging, sys
handler = logging.StreamHandler()
handler.setFormatter(logging.Formatter("mine: %(message)s"))
logging.getLogger("werkzeug").addHandler(handler)
app.run(port=int("PORT"))
"""),
    ],
    ids=["gunicorn", "uvicorn", "werkzeug"],
)  # fmt: skip
def test_format_of_the_program_s_choice_stays(tmp_path: Path, command: tuple[str, ...], program: str) -> None:
    """Whoever wrote a format got what it says."""
    with printed(tmp_path, *command, program=program) as lines:
        pass
    mine = [line for line in lines if line.startswith("mine: ") and "GET /items/7" in line]
    assert 1 == len(mine), lines
    assert not IDS.search(mine[0])


def test_access_log_in_a_file_stays_as_programs_read_it(tmp_path: Path) -> None:
    """Statistics and guards against intruders know the format of the server."""
    with printed(
        tmp_path, "gunicorn", "-b", "127.0.0.1:PORT", "--access-logfile", "access.log", "service:app"
    ) as lines:
        pass
    access = [line for line in lines if "GET /items/7" in line]
    assert 1 == len(access)
    assert access[0].startswith("127.0.0.1 - - [")


def test_turned_on_in_code_and_stamped_shows_ids_too(tmp_path: Path) -> None:
    """An application that a server loads comes when the server's handlers are there already."""
    program = "import clew, clew.logging\nclew.configure()\nclew.logging.follow()\nclew.instrument()\n" + PROGRAM
    with printed(tmp_path, "uvicorn", "service:asgi", "--port", "PORT", program=program, run=False) as lines:
        pass
    access = [line for line in lines if "GET /items/7" in line]
    assert [TRACE_ID] == [found[1] for line in access for found in IDS.finditer(line)]
