"""The sqlite3 module of the standard library.

Hooked: ``sqlite3.connect``, which then makes connections of a subclass (of the application's own, where it passes
``factory``), whose cursors trace. A connection that was open before, or that was made by ``sqlite3.Connection()``
itself, is of a type of C that nothing can be put into: it works as ever and is not traced.

Span: ``CLIENT``, the verb and the table (``SELECT items``), remote service ``sqlite``. Tags: ``db.system``,
``db.statement`` (values replaced by ``?``), ``db.rows`` (changed ones, where SQLite counts them), ``code.location``. It
covers ``execute``, in which SQLite runs up to the first row; fetching further ones is not in it. The end of a
transaction is a span as well (``COMMIT``, ``ROLLBACK``), be it by ``with connection``.

Tested with CPython 3.10 to 3.13.
"""

from __future__ import annotations

import sqlite3
import sqlite3.dbapi2
import sys
from typing import Any, Final

from clew._patch import patch, unpatch
from clew.integrations import _sql
from clew.integrations._subclass import look_like, subclass

_DATABASE: Final = _sql.database("sqlite", None, None, None)
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
    """Its ``execute`` and kin go by a cursor, as sqlite3's own do.

    Up to 3.10 those ask ``cursor`` for one. Since then they make a plain one in C, and a subclass that overrides
    ``cursor`` is not asked.
    """

    __slots__ = ()  # as sqlite3's own: no attributes

    def cursor(self, factory: Any = sqlite3.Cursor) -> Any:
        return super().cursor(_traced_cursor(factory))

    if sys.version_info >= (3, 11):

        def execute(self, *args: Any) -> Any:
            return super().cursor(_TracedCursor).execute(*args)

        def executemany(self, *args: Any) -> Any:
            return super().cursor(_TracedCursor).executemany(*args)

        def executescript(self, *args: Any) -> Any:
            return super().cursor(_TracedCursor).executescript(*args)

    def commit(self) -> None:
        if not self.in_transaction:
            return super().commit()
        with _sql.start("COMMIT", _DATABASE):
            return super().commit()

    def rollback(self) -> None:
        if not self.in_transaction:
            return super().rollback()
        with _sql.start("ROLLBACK", _DATABASE):
            return super().rollback()

    def __exit__(self, kind: Any, error: Any, tb: Any) -> Any:
        if not self.in_transaction:
            return super().__exit__(kind, error, tb)
        with _sql.start("COMMIT" if kind is None else "ROLLBACK", _DATABASE):
            return super().__exit__(kind, error, tb)


class _TracedCursor(sqlite3.Cursor):
    __slots__ = ()

    def execute(self, *args: Any) -> Any:
        if not args:
            return super().execute()  # type: ignore[call-arg]  # it complains in sqlite3's words
        sql = args[0]
        with _sql.start(sql, _DATABASE) as span:
            super().execute(_sql.commented(sql), *args[1:])
            _sql.note_rows(span, self.rowcount)
        return self

    def executemany(self, *args: Any) -> Any:
        if not args:
            return super().executemany()  # type: ignore[call-arg]  # it complains in sqlite3's words
        sql = args[0]
        with _sql.start(sql, _DATABASE) as span:
            super().executemany(_sql.commented(sql), *args[1:])
            _sql.note_rows(span, self.rowcount)
        return self

    def executescript(self, sql_script: str) -> Any:
        with _sql.start(sql_script, _DATABASE):
            super().executescript(sql_script)
        return self


def _traced_connection(factory: Any) -> Any:
    """Return a traced subclass. What is no class makes what it likes."""
    return subclass(factory, sqlite3.Connection, _TracedConnection) if isinstance(factory, type) else factory


def _traced_cursor(factory: Any) -> Any:
    return subclass(factory, sqlite3.Cursor, _TracedCursor) if isinstance(factory, type) else factory


look_like(_TracedConnection, sqlite3.Connection)
look_like(_TracedCursor, sqlite3.Cursor)
