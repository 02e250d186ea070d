"""asyncpg: connections, prepared statements, cursors, transactions and pools.

Hooked, on the classes of Python above its protocol in C, so that connections and pools made before are covered:
``Connection.execute``, ``executemany``, ``fetch*``, ``prepare``, ``copy_*``, ``reset``; the same of prepared statements
and the fetches of cursors; ``asyncpg.connect``; of a pool the wait for a connection where none is idle. A transaction's
``BEGIN``, ``COMMIT`` and ``ROLLBACK`` are statements that pass ``execute``.

Span: as psycopg's. What asyncpg asks by itself within a statement (types, say) belongs to that statement's span; what a
pool does to a connection that comes back is one span, ``RESET``.

Tested with asyncpg 0.29 and 0.32.
"""

from __future__ import annotations

from typing import Any, Final

import asyncpg
from asyncpg import connection, cursor, pool, prepared_stmt

from clew._patch import patch, unpatch
from clew.integrations import _sql

_SYSTEM: Final = "postgresql"
_anywhere: Final = _sql.database(_SYSTEM, None, None, None)


def install() -> None:
    """Trace all connections, also those that are open."""
    for owner, wrappers in _TABLE.items():
        for name, make in wrappers.items():
            if hasattr(owner, name):  # some came later
                patch(owner, name, make)


def uninstall() -> None:
    """Undo ``install``."""
    for owner, wrappers in _TABLE.items():
        for name in wrappers:
            unpatch(owner, name)


def _database(connection: Any) -> _sql.Database:
    try:
        address = connection._addr  # a pair, or the path of a socket
        host, port = address if isinstance(address, tuple) else (address, None)
        return _sql.database(_SYSTEM, connection._params.database, host, port)
    except Exception:  # noqa: BLE001 - a class of another version, or what stands in for a connection
        return _anywhere


def _around_statement(original: Any) -> Any:
    async def statement(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        with _sql.start(query, _database(self)) as span:
            result = await original(self, _sql.commented(query), *args, **kwargs)
            if span is not None:
                _note_result(span, result)
            return result

    return statement


def _note_result(span: Any, result: Any) -> None:
    if type(result) is list:
        _sql.note_rows(span, len(result))
    else:
        _sql.note_status(span, result)


def _around_fetchval(original: Any) -> Any:
    async def fetchval(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        with _sql.start(query, _database(self)):
            return await original(self, _sql.commented(query), *args, **kwargs)

    return fetchval


def _around_prepare(original: Any) -> Any:
    async def prepare(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        with _sql.start(f"PREPARE {query}", _database(self)):
            return await original(self, query, *args, **kwargs)

    return prepare


def _around_reset(original: Any) -> Any:
    async def reset(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _sql.start("RESET", _database(self)):
            return await original(self, *args, **kwargs)

    return reset


def _around_copy_from_table(original: Any) -> Any:
    async def copy(self: Any, table_name: Any, *args: Any, **kwargs: Any) -> Any:
        with _sql.start(f'COPY "{table_name}" TO STDOUT', _database(self)) as span:
            status = await original(self, table_name, *args, **kwargs)
            _sql.note_status(span, status)
            return status

    return copy


def _around_copy_to_table(original: Any) -> Any:
    async def copy(self: Any, table_name: Any, *args: Any, **kwargs: Any) -> Any:
        with _sql.start(f'COPY "{table_name}" FROM STDIN', _database(self)) as span:
            status = await original(self, table_name, *args, **kwargs)
            _sql.note_status(span, status)
            return status

    return copy


def _around_copy_from_query(original: Any) -> Any:
    async def copy(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        with _sql.start(f"COPY ({query}) TO STDOUT", _database(self)) as span:
            status = await original(self, query, *args, **kwargs)
            _sql.note_status(span, status)
            return status

    return copy


# Of prepared statements and cursors: they refuse at the call, not when that is awaited.


def _around_prepared(original: Any) -> Any:
    def prepared(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _run(original(self, *args, **kwargs), self, True)

    return prepared


def _around_prepared_fetchval(original: Any) -> Any:
    def fetchval(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _run(original(self, *args, **kwargs), self, False)

    return fetchval


async def _run(asking: Any, statement: Any, counts: bool) -> Any:
    with _sql.start(statement._query, _database(statement._connection)) as span:
        result = await asking
        if counts and type(result) is list:
            _sql.note_rows(span, len(result))
        return result


def _around_connect(original: Any) -> Any:
    async def connect(*args: Any, **kwargs: Any) -> Any:
        with _sql.start(_sql.CONNECT, _anywhere) as span:
            made = await original(*args, **kwargs)
            if span is not None:
                database = _database(made)
                span.tags.update(database.tags)
                span.remote = database.remote
            return made

    return connect


def _around_acquire(original: Any) -> Any:
    async def _acquire(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self._queue is not None and not self._queue.empty():
            return await original(self, *args, **kwargs)
        with _sql.start_wait(_anywhere):
            return await original(self, *args, **kwargs)

    return _acquire


_TABLE: Final[dict[Any, dict[str, Any]]] = {
    connection.Connection: {
        "execute": _around_statement,
        "executemany": _around_statement,
        "fetch": _around_statement,
        "fetchrow": _around_fetchval,
        "fetchval": _around_fetchval,
        "fetchmany": _around_statement,
        "prepare": _around_prepare,
        "reset": _around_reset,
        "copy_from_table": _around_copy_from_table,
        "copy_from_query": _around_copy_from_query,
        "copy_to_table": _around_copy_to_table,
        "copy_records_to_table": _around_copy_to_table,
    },
    prepared_stmt.PreparedStatement: {
        "fetch": _around_prepared,
        "fetchrow": _around_prepared_fetchval,
        "fetchval": _around_prepared_fetchval,
        "fetchmany": _around_prepared,
        "executemany": _around_prepared,
    },
    cursor.BaseCursor: {"_bind_exec": _around_prepared, "_exec": _around_prepared},
    pool.Pool: {"_acquire": _around_acquire},
    connection: {"connect": _around_connect},
    asyncpg: {"connect": _around_connect},
}
