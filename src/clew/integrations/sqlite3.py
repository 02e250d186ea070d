"""The sqlite3 module of the standard library.

Hooked: ``sqlite3.connect``, which then makes connections of a subclass (of the application's own, where it passes
``factory``), whose cursors trace. A connection that was open before, or that was made by ``sqlite3.Connection()``
itself, is of a type of C that nothing can be put into: it works as ever and is not traced.

Span: ``CLIENT``, the verb and the table (``SELECT items``), remote service ``sqlite``. Tags: ``db.system``,
``db.statement`` (values replaced by ``?``), ``db.rows`` (changed ones, where SQLite counts them). It covers
``execute``, in which SQLite runs up to the first row; fetching further ones is not in it.

Tested with CPython 3.10 to 3.13.
"""

from __future__ import annotations

import sqlite3
import sqlite3.dbapi2
import types
from functools import lru_cache
from typing import Any, Final

from clew._patch import patch, unpatch
from clew._span import Endpoint
from clew.integrations import _sql

_REMOTE: Final = Endpoint("sqlite")
_FACTORY_POSITION: Final = 5  # connect(database, timeout, detect_types, isolation_level, check_same_thread, factory)


def install() -> None:
    """Trace the connections that are made from now on."""
    patch(sqlite3, "connect", _around_connect)
    patch(sqlite3.dbapi2, "connect", _around_connect)


def uninstall() -> None:
    """Undo ``install``. Open connections stay traced."""
    unpatch(sqlite3, "connect")
    unpatch(sqlite3.dbapi2, "connect")


def _around_connect(original: Any) -> Any:
    def connect(*args: Any, **kwargs: Any) -> Any:
        if len(args) > _FACTORY_POSITION:
            traced = _traced_connection(args[_FACTORY_POSITION])
            args = (*args[:_FACTORY_POSITION], traced, *args[_FACTORY_POSITION + 1 :])
        else:
            kwargs["factory"] = _traced_connection(kwargs.get("factory", sqlite3.Connection))
        return original(*args, **kwargs)

    return connect


class _TracedConnection(sqlite3.Connection):
    """Its ``execute`` and kin go by a cursor, as sqlite3's own do; but those make theirs without asking ``cursor``."""

    __slots__ = ()  # as sqlite3's own: no attributes

    def cursor(self, factory: Any = sqlite3.Cursor) -> Any:
        return super().cursor(_traced_cursor(factory))

    def execute(self, sql: str, *args: Any) -> Any:
        return self.cursor().execute(sql, *args)

    def executemany(self, sql: str, *args: Any) -> Any:
        return self.cursor().executemany(sql, *args)

    def executescript(self, sql_script: str) -> Any:
        return self.cursor().executescript(sql_script)


class _TracedCursor(sqlite3.Cursor):
    __slots__ = ()

    def execute(self, sql: str, *args: Any) -> Any:
        with _sql.start(sql, "sqlite", _REMOTE) as span:
            super().execute(sql, *args)
            _sql.note_rows(span, self.rowcount)
        return self

    def executemany(self, sql: str, *args: Any) -> Any:
        with _sql.start(sql, "sqlite", _REMOTE) as span:
            super().executemany(sql, *args)
            _sql.note_rows(span, self.rowcount)
        return self

    def executescript(self, sql_script: str) -> Any:
        with _sql.start(sql_script, "sqlite", _REMOTE):
            super().executescript(sql_script)
        return self


def _traced_connection(factory: Any) -> Any:
    """Return a traced subclass. What is no class makes what it likes."""
    return _subclass(factory, sqlite3.Connection, _TracedConnection) if isinstance(factory, type) else factory


def _traced_cursor(factory: Any) -> Any:
    return _subclass(factory, sqlite3.Cursor, _TracedCursor) if isinstance(factory, type) else factory


@lru_cache(64)
def _subclass(factory: type, plain: type, traced: type) -> type:
    """Put our methods between the application's class and sqlite3's: its ``super()`` then calls ours.

    A class that does not let itself be subclassed (``__init_subclass__``, a metaclass) is used as it is, untraced.
    """
    if factory is plain:
        return traced
    if not issubclass(factory, plain) or issubclass(factory, traced):
        return factory
    names = {"__module__": factory.__module__, "__qualname__": factory.__qualname__, "__doc__": factory.__doc__}
    try:
        return types.new_class(factory.__name__, (factory, traced), exec_body=lambda own: own.update(names))
    except Exception:  # noqa: BLE001 - the boundary to the application's own class
        return factory


def _look_like(traced: type, plain: type) -> None:
    """Name a class as sqlite3 does, for ``repr`` and log lines."""
    traced.__name__, traced.__qualname__, traced.__module__ = plain.__name__, plain.__qualname__, plain.__module__


_look_like(_TracedConnection, sqlite3.Connection)
_look_like(_TracedCursor, sqlite3.Cursor)
