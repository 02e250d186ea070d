"""What the drivers of MySQL and MariaDB have in common: the wrappers of their connections' and cursors' methods.

Between pymysql, MySQLdb and aiomysql, which are of one shape, and `_sql`. Span: ``CLIENT``, the verb and the table
(``SELECT items``), remote service ``mysql``. Tags: ``db.system``, ``db.name``, ``server.address``, ``db.statement``
(values replaced by ``?``), ``db.rows``, ``code.location``. ``BEGIN``, ``COMMIT``, ``ROLLBACK`` and ``CONNECT`` are
spans, too: these drivers ask the server for each.
"""

from __future__ import annotations

from typing import Any, Final

from clew.integrations import _sql

_SYSTEM: Final = "mysql"
_anywhere: Final = _sql.database(_SYSTEM, None, None, None, True)


def database(connection: Any) -> _sql.Database:
    """Describe a connection's database."""
    try:
        name, host = getattr(connection, "db", None), getattr(connection, "host", None)
        return _sql.database(_SYSTEM, name, host, getattr(connection, "port", None), True)
    except Exception:  # noqa: BLE001 - a connection that is closed, or of another version
        return _anywhere


def around_execute(original: Any) -> Any:
    """Trace ``execute`` and ``executemany`` of a cursor."""

    def execute(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        with _sql.start(query, database(self.connection)) as span:
            result = original(self, _sql.commented(query), *args, **kwargs)
            _sql.note_rows(span, self.rowcount)
            return result

    return execute


def around_execute_async(original: Any) -> Any:
    """Trace the same of an asynchronous cursor."""

    async def execute(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        with _sql.start(query, database(self.connection)) as span:
            result = await original(self, _sql.commented(query), *args, **kwargs)
            _sql.note_rows(span, self.rowcount)
            return result

    return execute


def around_callproc(original: Any) -> Any:
    """Trace ``callproc`` of a cursor."""

    def callproc(self: Any, procname: Any, *args: Any, **kwargs: Any) -> Any:
        with _sql.start(f"CALL {procname}", database(self.connection)):
            return original(self, procname, *args, **kwargs)

    return callproc


def around_callproc_async(original: Any) -> Any:
    """Trace the same of an asynchronous cursor."""

    async def callproc(self: Any, procname: Any, *args: Any, **kwargs: Any) -> Any:
        with _sql.start(f"CALL {procname}", database(self.connection)):
            return await original(self, procname, *args, **kwargs)

    return callproc


def _around_begin(original: Any) -> Any:
    def begin(self: Any) -> Any:
        with _sql.start("BEGIN", database(self)):
            return original(self)

    return begin


def _around_commit(original: Any) -> Any:
    def commit(self: Any) -> Any:
        with _sql.start("COMMIT", database(self)):
            return original(self)

    return commit


def _around_rollback(original: Any) -> Any:
    def rollback(self: Any) -> Any:
        with _sql.start("ROLLBACK", database(self)):
            return original(self)

    return rollback


def around_connect(original: Any) -> Any:
    """Trace the method of a connection, or its constructor, that connects."""

    def connect(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _sql.start(_sql.CONNECT, _anywhere) as span:
            result = original(self, *args, **kwargs)
            _note_database(span, self)
            return result

    return connect


def _around_begin_async(original: Any) -> Any:
    async def begin(self: Any) -> Any:
        with _sql.start("BEGIN", database(self)):
            return await original(self)

    return begin


def _around_commit_async(original: Any) -> Any:
    async def commit(self: Any) -> Any:
        with _sql.start("COMMIT", database(self)):
            return await original(self)

    return commit


def _around_rollback_async(original: Any) -> Any:
    async def rollback(self: Any) -> Any:
        with _sql.start("ROLLBACK", database(self)):
            return await original(self)

    return rollback


def around_connect_async(original: Any) -> Any:
    """Trace the same of an asynchronous connection."""

    async def connect(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _sql.start(_sql.CONNECT, _anywhere) as span:
            result = await original(self, *args, **kwargs)
            _note_database(span, self)
            return result

    return connect


def _note_database(span: Any, connection: Any) -> None:
    if span is not None:
        found = database(connection)
        span.tags.update(found.tags)
        span.remote = found.remote


def around_acquire_async(original: Any) -> Any:
    """Trace the wait for a pool's connection, where none is idle and no other may be made."""

    async def acquire(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.freesize or self.size < self.maxsize:
            return await original(self, *args, **kwargs)
        with _sql.start_wait(_anywhere):
            return await original(self, *args, **kwargs)

    return acquire


CURSOR: Final = {"execute": around_execute, "executemany": around_execute, "callproc": around_callproc}
CURSOR_ASYNC: Final = {
    "execute": around_execute_async,
    "executemany": around_execute_async,
    "callproc": around_callproc_async,
}
ENDS: Final = {"begin": _around_begin, "commit": _around_commit, "rollback": _around_rollback}
ENDS_ASYNC: Final = {"begin": _around_begin_async, "commit": _around_commit_async, "rollback": _around_rollback_async}
