"""SQLAlchemy, sync and async, 2 and 1.4, on any driver.

Hooked, on the classes, so that engines made before are covered: ``Connection``'s way to a cursor, its commit, rollback
and savepoints, ``Pool._create_connection`` and ``QueuePool._do_get``. What the ORM does passes all of these.

Span: ``CLIENT``, the verb and the table (``SELECT items``), remote service by the dialect (``postgresql``). Tags:
``db.system``, ``db.name``, ``server.address``, ``db.statement`` (values replaced by ``?``), ``db.rows``,
``code.location``. The driver beneath makes none of its own, traced or not: an INSERT that SQLAlchemy sends in batches,
or a statement for which asyncpg asks twice, is one span. ``COMMIT``, ``ROLLBACK`` and savepoints are spans, a new
connection is ``CONNECT`` with what a dialect asks first, and the wait while all are in use is ``wait for connection``.

Tested with SQLAlchemy 1.4 and 2.1.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy.engine.base import Connection
from sqlalchemy.pool import Pool, QueuePool

from clew._patch import patch, unpatch
from clew.integrations import _sql

_ESCAPING: Final = ("mysql", "mariadb")  # where a backslash escapes in plain strings
_anywhere: Final = _sql.database("sql", None, None, None)


def install() -> None:
    """Trace all engines, also those that exist."""
    for owner, wrappers in _TABLE.items():
        for name, make in wrappers.items():
            patch(owner, name, make)


def uninstall() -> None:
    """Undo ``install``."""
    for owner, wrappers in _TABLE.items():
        for name in wrappers:
            unpatch(owner, name)


def _database(connection: Any) -> _sql.Database:
    try:
        url = connection.engine.url
        system = connection.dialect.name
        host, port = url.host, url.port
        return _sql.database(system, None if system == "sqlite" else url.database, host, port, system in _ESCAPING)
    except Exception:  # noqa: BLE001 - a mock engine, a URL of another version
        return _anywhere


# Statements.


def _around_context(original: Any) -> Any:
    def execute(self: Any, dialect: Any, context: Any, *args: Any, **kwargs: Any) -> Any:
        with _sql.start(context.statement, _database(self)) as span:
            result = original(self, dialect, context, *args, **kwargs)
            if span is not None:
                _note_rows(span, context)
            return result

    return execute


def _around_context_of_1_4(original: Any) -> Any:
    def _execute_context(self: Any, dialect: Any, constructor: Any, statement: Any, *args: Any, **kwargs: Any) -> Any:
        with _sql.start(getattr(statement, "string", statement), _database(self)) as span:
            result = original(self, dialect, constructor, statement, *args, **kwargs)
            if span is not None:
                _note_rows(span, getattr(result, "context", None))
            return result

    return _execute_context


def _note_rows(span: Any, context: Any) -> None:
    try:
        _sql.note_rows(span, context.rowcount)
    except Exception:  # noqa: BLE001 - a driver that does not count, or a cursor that is closed
        return


def _around_cursor_execute(original: Any) -> Any:
    def _cursor_execute(self: Any, cursor: Any, statement: Any, *args: Any, **kwargs: Any) -> Any:
        with _sql.start(statement, _database(self)):
            return original(self, cursor, statement, *args, **kwargs)

    return _cursor_execute


# Transactions.


def _has_transaction(connection: Any) -> bool:
    """Tell whether the database has one to end. Where that cannot be known, it is taken to have."""
    try:
        if connection._is_autocommit_isolation():
            return False
        return bool(getattr(connection._dbapi_connection.dbapi_connection, "in_transaction", True))
    except Exception:  # noqa: BLE001 - 1.4, a connection that has been lost
        return True


def _around_commit(original: Any) -> Any:
    def commit(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not _has_transaction(self):
            return original(self, *args, **kwargs)
        with _sql.start("COMMIT", _database(self)):
            return original(self, *args, **kwargs)

    return commit


def _around_rollback(original: Any) -> Any:
    def rollback(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not _has_transaction(self):
            return original(self, *args, **kwargs)
        with _sql.start("ROLLBACK", _database(self)):
            return original(self, *args, **kwargs)

    return rollback


# Pools.


def _around_create(original: Any) -> Any:
    def _create_connection(self: Any) -> Any:
        with _sql.start(_sql.CONNECT, _database_of(self)):
            return original(self)

    return _create_connection


def _around_get(original: Any) -> Any:
    def _do_get(self: Any) -> Any:
        if not _must_wait(self):
            return original(self)
        with _sql.start_wait(_database_of(self)):
            return original(self)

    return _do_get


def _must_wait(pool: Any) -> bool:
    """Tell whether all connections that a pool may have are in use."""
    try:
        return bool(-1 < pool._max_overflow <= pool._overflow and pool._pool.empty())
    except Exception:  # noqa: BLE001 - a pool of the application's own, made otherwise
        return False


def _database_of(pool: Any) -> _sql.Database:
    """Describe a pool's database: of the dialect only the name is known here."""
    try:
        return _sql.database(pool._dialect.name, None, None, None)
    except Exception:  # noqa: BLE001 - a pool without an engine
        return _anywhere


_STATEMENTS: Final = (
    {"_exec_single_context": _around_context, "_exec_insertmany_context": _around_context}
    if hasattr(Connection, "_exec_single_context")
    else {"_execute_context": _around_context_of_1_4}
)
_TABLE: Final[dict[Any, dict[str, Any]]] = {
    Connection: {
        **_STATEMENTS,
        "_cursor_execute": _around_cursor_execute,
        "_commit_impl": _around_commit,
        "_commit_twophase_impl": _around_commit,
        "_rollback_impl": _around_rollback,
        "_rollback_twophase_impl": _around_rollback,
    },
    Pool: {"_create_connection": _around_create},
    QueuePool: {"_do_get": _around_get},
}
