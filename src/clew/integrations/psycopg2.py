"""psycopg2, sync and async (``async_=True``), and its pools.

Its connections and cursors are types of C that nothing can be put into. Hooked is ``psycopg2.connect``, which then
makes connections of a subclass (of the application's own, where it passes ``connection_factory``), whose cursors are of
a subclass as well (of the ``cursor_factory`` that is asked for). They are instances of psycopg2's types, so whatever
looks for those finds them. A connection that was open before works as ever and is not traced.

Span: as psycopg's. ``execute``, ``executemany``, ``callproc``, ``copy_*``, ``commit``, ``rollback`` (not where no
transaction is open), the end of ``with connection``, ``connect``, and each fetch of a named cursor, which asks the
server (not so where it is iterated). An asynchronous connection's span ends when the statement has been sent.

Tested with psycopg2 2.9.
"""

from __future__ import annotations

from typing import Any, Final

import psycopg2
from psycopg2 import extensions

from clew._patch import patch, unpatch
from clew.integrations import _sql
from clew.integrations._subclass import look_like, subclass

_SYSTEM: Final = "postgresql"
_IDLE: Final = extensions.TRANSACTION_STATUS_IDLE
_anywhere: Final = _sql.database(_SYSTEM, None, None, None)


def install() -> None:
    """Trace the connections that are made from now on."""
    patch(psycopg2, "connect", _around_connect)


def uninstall() -> None:
    """Undo ``install``. Open connections stay traced."""
    unpatch(psycopg2, "connect")


def _around_connect(original: Any) -> Any:
    def connect(dsn: Any = None, connection_factory: Any = None, cursor_factory: Any = None, **kwargs: Any) -> Any:
        factory = connection_factory or extensions.connection
        if isinstance(factory, type):
            factory = subclass(factory, extensions.connection, _TracedConnection)
        with _sql.start(_sql.CONNECT, _anywhere) as span:
            connection = original(dsn, factory, cursor_factory, **kwargs)
            if span is not None:
                database = _database(connection)
                span.tags.update(database.tags)
                span.remote = database.remote
            return connection

    return connect


def _database(connection: Any) -> _sql.Database:
    try:
        info = connection.info
        return _sql.database(_SYSTEM, info.dbname, info.host, info.port)
    except Exception:  # noqa: BLE001 - a connection that is closed, or still being made, tells nothing
        return _anywhere


class _TracedConnection(extensions.connection):  # type: ignore[misc]
    """Its cursors are traced, whichever class they are asked to be of."""

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        name = args[0] if args else kwargs.get("name")
        plain, traced = extensions.cursor, _TracedCursor if name is None else _TracedNamedCursor
        if len(args) > 1:
            args = (args[0], _traced(args[1] or self.cursor_factory or plain, traced), *args[2:])
        else:
            kwargs["cursor_factory"] = _traced(kwargs.get("cursor_factory") or self.cursor_factory or plain, traced)
        return super().cursor(*args, **kwargs)

    def commit(self) -> Any:
        if self.get_transaction_status() == _IDLE:
            return super().commit()
        with _sql.start("COMMIT", _database(self)):
            return super().commit()

    def rollback(self) -> Any:
        if self.get_transaction_status() == _IDLE:
            return super().rollback()
        with _sql.start("ROLLBACK", _database(self)):
            return super().rollback()


def _traced(factory: Any, traced: type) -> Any:
    return subclass(factory, extensions.cursor, traced) if isinstance(factory, type) else factory


class _TracedCursor(extensions.cursor):  # type: ignore[misc]
    """A cursor whose statements are spans."""

    def execute(self, query: Any, *args: Any, **kwargs: Any) -> None:
        with _start(self, query) as span:
            super().execute(_sql.commented(query), *args, **kwargs)
            _sql.note_rows(span, self.rowcount)

    def executemany(self, query: Any, *args: Any, **kwargs: Any) -> None:
        with _start(self, query) as span:
            super().executemany(_sql.commented(query), *args, **kwargs)
            _sql.note_rows(span, self.rowcount)

    def callproc(self, procname: Any, *args: Any, **kwargs: Any) -> Any:
        with _sql.start(f"CALL {procname}", _database(self.connection)) as span:
            result = super().callproc(procname, *args, **kwargs)
            _sql.note_rows(span, self.rowcount)
            return result

    def copy_expert(self, sql: Any, *args: Any, **kwargs: Any) -> None:
        with _start(self, sql) as span:
            super().copy_expert(sql, *args, **kwargs)
            _sql.note_rows(span, self.rowcount)

    def copy_from(self, file: Any, table: str, *args: Any, **kwargs: Any) -> None:
        with _sql.start(f'COPY "{table}" FROM STDIN', _database(self.connection)) as span:
            super().copy_from(file, table, *args, **kwargs)
            _sql.note_rows(span, self.rowcount)

    def copy_to(self, file: Any, table: str, *args: Any, **kwargs: Any) -> None:
        with _sql.start(f'COPY "{table}" TO STDOUT', _database(self.connection)) as span:
            super().copy_to(file, table, *args, **kwargs)
            _sql.note_rows(span, self.rowcount)


class _TracedNamedCursor(_TracedCursor):
    """A cursor of the server, which each fetch asks."""

    def fetchone(self) -> Any:
        with _fetch(self):
            return super().fetchone()

    def fetchmany(self, *args: Any, **kwargs: Any) -> Any:
        with _fetch(self) as span:
            rows = super().fetchmany(*args, **kwargs)
            _sql.note_rows(span, len(rows))
            return rows

    def fetchall(self) -> Any:
        with _fetch(self) as span:
            rows = super().fetchall()
            _sql.note_rows(span, len(rows))
            return rows


look_like(_TracedConnection, extensions.connection)
look_like(_TracedCursor, extensions.cursor)
look_like(_TracedNamedCursor, extensions.cursor)


def _fetch(cursor: Any) -> Any:
    return _sql.start(f'FETCH FROM "{cursor.name}"', _database(cursor.connection))


def _start(cursor: Any, query: Any) -> Any:
    connection = cursor.connection
    if not isinstance(query, (str, bytes)):
        try:
            query = query.as_string(connection)
        except Exception:  # noqa: BLE001 - whatever it is, psycopg2 will say
            query = "SQL"
    return _sql.start(query, _database(connection))
