"""instrument(): names, laziness, idempotence, broken libraries, taking it back."""

from __future__ import annotations

import logging
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import requests

import clew
from clew.integrations import _imports, instrument_on_import
from clew.testing import recorded
from integrations.fresh import run_fresh

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def taken_back() -> Iterator[None]:
    yield
    clew.uninstrument()


def run(program: str, path: Path | None = None) -> str:
    """Run a program in an interpreter of its own; return what it printed."""
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=path, timeout=60)
    assert 0 == done.returncode, done.stderr
    return done.stdout.strip()


def test_all_that_is_installed_is_returned() -> None:
    """Without names everything that is here is hooked."""
    expected = [
        "asgi",
        "django",
        "flask",
        "aiohttp",
        "httpx",
        "requests",
        "grpc",
        "sqlite3",
        "psycopg",
        "psycopg2",
        "asyncpg",
        "pymysql",
        *(["mysqlclient"] if find_spec("MySQLdb") else []),  # which has to be compiled
        "aiomysql",
        "redis",
        "pymemcache",
        "sqlalchemy",
        "threads",
        "processes",
        "gevent",
    ]
    assert [*expected, "servers", "access_logs"] == clew.instrument()


def test_other_names_of_a_library_are_known() -> None:
    """Users say what they use."""
    assert ["asgi"] == clew.instrument("fastapi", "starlette", "asgi")


def test_unknown_name_is_refused_with_the_known_ones() -> None:
    """A typing error shows at once, with what would be right."""
    with pytest.raises(ValueError, match="'flaks' is not known; known are asgi, starlette, fastapi, django"):
        clew.instrument("httpx", "flaks")
    with pytest.raises(ValueError, match="'flaks' is not known"):
        clew.uninstrument("flaks")
    assert not hasattr(httpx.Client._send_single_request, "__wrapped__")


def test_disabled_does_nothing() -> None:
    """With enabled=no no library is touched."""
    with recorded(enabled=False):
        assert [] == clew.instrument()
    assert not hasattr(requests.Session.send, "__wrapped__")


def test_originals_are_put_back() -> None:
    """Twice in, once out: the methods are the very same again."""
    before = (requests.Session.send, httpx.Client._send_single_request)
    clew.instrument("requests", "httpx")
    clew.instrument("requests", "httpx")
    assert before != (requests.Session.send, httpx.Client._send_single_request)
    clew.uninstrument("requests", "httpx")
    clew.uninstrument("requests", "httpx")
    assert before == (requests.Session.send, httpx.Client._send_single_request)


def test_no_library_is_imported() -> None:
    """A library that the program does not use stays out of its memory."""
    program = """
import sys, clew
clew.instrument()
print([name for name in ("starlette", "flask", "aiohttp", "httpx", "requests", "sqlite3") if name in sys.modules])
"""
    assert "[]" == run(program)


def test_library_imported_later_is_hooked() -> None:
    """The hook goes in with the import, and leaves the import system as it found it."""
    program = """
import sys, clew
before = list(sys.meta_path)
clew.instrument("requests", "sqlite3")
import requests, sqlite3
print(hasattr(requests.Session.send, "__wrapped__"), hasattr(sqlite3.connect, "__wrapped__"))
print(sys.meta_path == before, type(requests.__spec__.loader).__name__, type(requests.__loader__).__name__)
"""
    assert "True True\nTrue SourceFileLoader SourceFileLoader" == run(program)


def test_library_of_an_odd_version_works_untraced(tmp_path: Path) -> None:
    """What cannot be hooked is said once and otherwise left alone."""
    (tmp_path / "requests").mkdir()
    (tmp_path / "requests" / "__init__.py").write_text("__version__ = '99.0'\nclass Session: pass\n")
    program = """
import logging, sys
logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(name)s %(message)s")
sys.path.insert(0, ".")
import clew
clew.instrument("requests"); import requests; clew.instrument("requests")
print(requests.Session)
"""
    lines = run(program, tmp_path).splitlines()
    assert lines[0].startswith("WARNING clew requests 99.0 is not traced: AttributeError")
    assert "<class 'requests.Session'>" == lines[-1]


def test_missing_library_is_said_when_asked_for(caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> None:
    """A name that was asked for and is not installed is no error, but not silent either."""
    monkeypatch.setitem(sys.modules, "requests", None)
    monkeypatch.delitem(sys.modules, "requests")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with caplog.at_level(logging.WARNING, "clew"):
        assert [] == clew.instrument("requests")
    assert ["requests is not installed, so it is not traced"] == [record.getMessage() for record in caplog.records]


def test_waiting_is_forgotten_when_taken_back() -> None:
    """instrument_on_import waits for everything; uninstrument leaves no finder behind."""
    program = """
import sys, clew
from clew.integrations import instrument_on_import
before = list(sys.meta_path)
names = instrument_on_import()
clew.uninstrument()
print("grpc" in names, "access_logs" in names, sys.meta_path == before)
"""
    assert "True True True" == run(program)


def test_function_is_called_once_for_a_module() -> None:
    """A module that is here already is handed over at once."""
    got: list[Any] = []
    _imports.when_imported("json", got.append)
    assert ["json"] == [module.__name__ for module in got]
    assert "asgi" in instrument_on_import()


@pytest.mark.parametrize("way", ["first", "run"])
def test_server_that_is_not_hooked_is_named_once(tmp_path: Path, way: str) -> None:
    """Its requests make no span, which nobody would see; a warning at its import says so and what to do."""
    (tmp_path / "sanic.py").write_text("")
    (tmp_path / "cheroot").mkdir()
    (tmp_path / "cheroot" / "__init__.py").write_text("")
    (tmp_path / "cheroot" / "wsgi.py").write_text("")
    ended = run_fresh(
        "import logging\nlogging.basicConfig(format='> %(name)s %(message)s')\nimport sanic, cheroot.wsgi, sanic\n",
        tmp_path,
        way,
    )
    said = [line.removeprefix("> clew ") for line in ended.errors.splitlines()]
    assert [
        "sanic is not hooked, so its requests make no server span: "
        "serve it by an ASGI server, such as uvicorn, where its requests are traced",
        "cheroot.wsgi is not hooked, so its requests make no server span: "
        "wrap the WSGI application that it serves: clew.integrations.wsgi.TraceMiddleware(app)",
    ] == said
