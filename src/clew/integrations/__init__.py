"""Hooks into libraries: ``clew.instrument()`` turns them on. Here only which there are, and when.

One small module per library, all of one shape; none is imported before its library is. A library that the application
imports later is hooked when it does; one that it never imports costs nothing.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Final, NamedTuple

from clew import _options, _tracer
from clew.integrations import _imports
from clew.reporter import warn

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType


class _Integration:
    """One library: ``hooks`` are its modules whose import makes it possible to hook it."""

    def __init__(self, module: str, *hooks: str) -> None:
        self._module = f"clew.integrations.{module}"
        self.hooks = hooks

    def is_installed(self) -> bool:
        from importlib.util import find_spec  # not at the top: `import clew` is on everyone's start-up

        library = self.hooks[0].partition(".")[0]
        return library in sys.modules or find_spec(library) is not None

    def install(self, hooked: ModuleType) -> None:
        """Hook the library, of which ``hooked`` has just been imported; all of it, or nothing where something fails."""
        integration = import_module(self._module)
        try:
            integration.install()
        except Exception:
            with suppress(Exception):  # what was missing to install is missing here, too
                integration.uninstall()
            raise

    def uninstall(self) -> None:
        if self._module in sys.modules:
            sys.modules[self._module].uninstall()


class _Known(NamedTuple):
    names: tuple[str, ...]  # the first is the one that instrument() returns
    integration: _Integration


_KNOWN: Final = (
    _Known(("asgi", "starlette", "fastapi"), _Integration("asgi", "starlette.applications")),
    _Known(("django", "channels"), _Integration("django", "django")),
    _Known(("flask",), _Integration("flask", "flask")),
    _Known(("aiohttp",), _Integration("aiohttp", "aiohttp")),
    _Known(("httpx",), _Integration("httpx", "httpx")),
    _Known(("requests",), _Integration("requests", "requests")),
    _Known(("grpc",), _Integration("grpc", "grpc")),
    _Known(("sqlite3",), _Integration("sqlite3", "sqlite3")),
    _Known(("psycopg",), _Integration("psycopg", "psycopg")),
    _Known(("psycopg2",), _Integration("psycopg2", "psycopg2")),
    _Known(("asyncpg",), _Integration("asyncpg", "asyncpg")),
    _Known(("pymysql",), _Integration("pymysql", "pymysql")),
    _Known(("mysqlclient", "MySQLdb"), _Integration("mysqldb", "MySQLdb")),
    _Known(("aiomysql",), _Integration("aiomysql", "aiomysql")),
    _Known(("redis",), _Integration("redis", "redis")),
    _Known(("pymemcache",), _Integration("pymemcache", "pymemcache")),
    _Known(("sqlalchemy",), _Integration("sqlalchemy", "sqlalchemy.engine")),
    _Known(("threads",), _Integration("threads", "threading")),
    _Known(("processes",), _Integration("processes", "threading")),
    _Known(("gevent",), _Integration("gevent", "gevent.greenlet")),
    _Known(("servers",), _Integration("servers", "threading")),
    _Known(("access_logs",), _Integration("access_logs", "threading")),
)
_BY_NAME: Final = {name: known for known in _KNOWN for name in known.names}


def instrument(*names: str, lazily: bool = False) -> list[str]:
    """Hook libraries into the trace, by default all that are installed; return the names of those hooked.

    A library that is not imported yet is hooked when it is. Apps, clients and sessions that exist already are covered
    (sqlite3 connections are not). Idempotent, safe beside the middleware of this package, and before or after a fork. A
    library of a version that cannot be hooked is reported once on the logger ``clew``, works as ever and, where that is
    known at once, is not in the list; without names a known server that is not hooked is reported when it is imported.
    Raises ValueError for a name that is not known. Does nothing with ``configure(enabled=False)``. With
    ``CLEW_DEBUG=1`` it says on standard error what is hooked, what not, and why.

    ``lazily``: do not look what is installed, only wait for imports; for the very start of a program.
    """
    wanted = _find(names)
    if not _tracer.tracer().enabled:
        return []
    if _options.read_boolean("debug", None, False):
        from clew.integrations import _explain

        _explain.begin({name: integration.hooks for name, integration in wanted})
    if not names:
        from clew.integrations import _unhooked  # not at the top: `import clew` need not load its table

        _unhooked.install()
    hooked = []
    for name, integration in wanted:
        if not lazily and not integration.is_installed():
            if names:
                warn("%s is not installed, so it is not traced", name)
            continue
        if all(_imports.when_imported(module, integration.install) for module in integration.hooks):
            hooked.append(name)
    return hooked


def instrument_on_import() -> list[str]:
    """Hook every known library when it is imported: what ``clew run`` does before the program begins."""
    return instrument(lazily=True)


def uninstrument(*names: str) -> None:
    """Take hooks out, by default all. Idempotent. Raises ValueError for a name that is not known.

    What was made meanwhile and cannot be changed back (an open sqlite3 connection, a middleware) stays traced.
    """
    if not names and "clew.integrations._unhooked" in sys.modules:
        sys.modules["clew.integrations._unhooked"].uninstall()
    for _, integration in _find(names):
        for module in integration.hooks:
            _imports.forget(module, integration.install)
        try:
            integration.uninstall()
        except Exception as problem:  # noqa: BLE001 - the library may have changed since it was hooked
            warn("hooks could not be taken out: %r", problem)


def _find(names: Iterable[str]) -> list[tuple[str, _Integration]]:
    """Return the integrations of these names, each once, in the order of the list above; all of them for no name."""
    unknown = [name for name in names if name not in _BY_NAME]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not known; known are {', '.join(_BY_NAME)}")
    wanted = [_BY_NAME[name] for name in names] or list(_KNOWN)
    return [(known.names[0], known.integration) for known in _KNOWN if known in wanted]
