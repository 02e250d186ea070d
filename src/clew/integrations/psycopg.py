"""psycopg 3, sync and async, and psycopg_pool.

Hooked, on the classes, so that connections and pools made before are covered: ``Cursor.execute``, ``executemany``,
``stream``, ``copy`` and the kin of ``AsyncCursor`` and of server-side cursors (with their fetches, which are statements
of their own), ``Connection.commit`` and ``rollback``, both ends of ``transaction()`` and of ``pipeline()``,
``Connection.connect``; of psycopg_pool the wait in ``getconn`` where no connection is idle.

Span: ``CLIENT``, the verb and the table (``SELECT items``), remote service ``postgresql``. Tags: ``db.system``,
``db.name``, ``server.address``, ``db.statement`` (values replaced by ``?``), ``db.rows``, ``code.location``. In a
pipeline a statement's span ends when it has been queued, and the span ``SYNC`` is the wait for all of them. A commit
or rollback without a transaction asks no server and is no span.

Tested with psycopg 3.1 and 3.3, psycopg_pool 3.1 and 3.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import psycopg

from clew._patch import patch, unpatch
from clew.integrations import _sql
from clew.integrations._hooks import Hooks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator

    from clew.integrations._sql import Database

_IDLE: Final = 0  # of libpq's PQtransactionStatus
_SYSTEM: Final = "postgresql"
_anywhere: Final = _sql.database(_SYSTEM, None, None, None)


def install() -> None:
    """Trace all connections, also those that are open, and the pools of psycopg_pool when that is imported."""
    for owner, wrappers in _TABLE.items():
        for name, make in wrappers.items():
            patch(owner, name, make)
    _pools.install()


def uninstall() -> None:
    """Undo ``install``."""
    _pools.uninstall()
    for owner, wrappers in _TABLE.items():
        for name in wrappers:
            unpatch(owner, name)


def _database(connection: Any) -> Database:
    try:
        pgconn = connection.pgconn
        return _sql.database(_SYSTEM, pgconn.db, pgconn.host, pgconn.port)
    except Exception:  # noqa: BLE001 - a connection that is closed tells nothing
        return _anywhere


def _text_of(query: Any, connection: Any) -> Any:
    """Return a query as text: psycopg takes bytes and composed objects, too."""
    if isinstance(query, (str, bytes)):
        return query
    try:
        return query.as_string(connection)
    except Exception:  # noqa: BLE001 - whatever it is, psycopg will say
        return "SQL"


def _start(cursor: Any, query: Any) -> Any:
    connection = cursor.connection
    return _sql.start(query if type(query) is str else _text_of(query, connection), _database(connection))


def _rows(cursor: Any) -> int:
    return -1 if cursor.connection.pgconn.pipeline_status else cursor.rowcount


# Statements.


def _around_execute(original: Any) -> Any:
    def execute(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        with _start(self, query) as span:
            result = original(self, _sql.commented(query), *args, **kwargs)
            if span is not None:
                _sql.note_rows(span, _rows(self))
            return result

    return execute


def _around_execute_async(original: Any) -> Any:
    async def execute(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        with _start(self, query) as span:
            result = await original(self, _sql.commented(query), *args, **kwargs)
            if span is not None:
                _sql.note_rows(span, _rows(self))
            return result

    return execute


def _around_fetch_gen(original: Any) -> Any:
    def _fetch_gen(self: Any, *args: Any) -> Any:
        return _fetching(original(self, *args), self)

    return _fetch_gen


def _fetching(steps: Any, cursor: Any) -> Generator[Any, Any, Any]:
    with _sql.start(f'FETCH FROM "{cursor.name}"', _database(cursor.connection)) as span:
        rows = yield from steps
        if span is not None:
            _sql.note_rows(span, len(rows))
        return rows


# Streams and COPY, in which the program's own code runs.


def _around_stream(original: Any) -> Any:
    def stream(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        return _streamed(original(self, query, *args, **kwargs), self, query)

    return stream


def _streamed(rows: Any, cursor: Any, query: Any) -> Iterator[Any]:
    count = 0
    with _aside(cursor, query) as span:
        try:
            for row in rows:
                count += 1
                yield row
        finally:
            rows.close()
            _sql.note_rows(span, count)


def _around_stream_async(original: Any) -> Any:
    def stream(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        return _streamed_async(original(self, query, *args, **kwargs), self, query)

    return stream


async def _streamed_async(rows: Any, cursor: Any, query: Any) -> AsyncIterator[Any]:
    count = 0
    with _aside(cursor, query) as span:
        try:
            async for row in rows:
                count += 1
                yield row
        finally:
            await rows.aclose()
            _sql.note_rows(span, count)


def _around_copy(original: Any) -> Any:
    def copy(self: Any, statement: Any, *args: Any, **kwargs: Any) -> Any:
        return _Copying(original(self, statement, *args, **kwargs), self, statement)

    return copy


class _Copying:
    """A COPY that begins with its ``with`` block and ends with it."""

    def __init__(self, copying: Any, cursor: Any, statement: Any) -> None:
        self._copying = copying
        self._cursor = cursor
        self._statement = statement
        self._span: Any = None

    def __enter__(self) -> Any:
        self._span = _aside(self._cursor, self._statement)
        try:
            return self._copying.__enter__()
        except BaseException as problem:
            self._span.__exit__(type(problem), problem, None)
            raise

    def __exit__(self, kind: Any, error: Any, tb: Any) -> Any:
        with self._span as span:
            ended = self._copying.__exit__(kind, error, tb)
            self._note(span, error)
            return ended

    async def __aenter__(self) -> Any:
        self._span = _aside(self._cursor, self._statement)
        try:
            return await self._copying.__aenter__()
        except BaseException as problem:
            self._span.__exit__(type(problem), problem, None)
            raise

    async def __aexit__(self, kind: Any, error: Any, tb: Any) -> Any:
        with self._span as span:
            ended = await self._copying.__aexit__(kind, error, tb)
            self._note(span, error)
            return ended

    def _note(self, span: Any, error: Any) -> None:
        if error is None:
            _sql.note_rows(span, self._cursor.rowcount)
        elif span is not None:
            span.set_error(error)


def _aside(cursor: Any, query: Any) -> Any:
    return _sql.start_aside(_text_of(query, cursor.connection), _database(cursor.connection))


# Transactions and pipelines: generators, which connections of both kinds drive.


def _is_idle(connection: Any) -> bool:
    return bool(connection.pgconn.transaction_status == _IDLE)


def _run(steps: Any, sql: str, connection: Any) -> Generator[Any, Any, Any]:
    with _sql.start(sql, _database(connection)):
        return (yield from steps)


def _around_commit_gen(original: Any) -> Any:
    def _commit_gen(self: Any) -> Any:
        steps = original(self)
        return steps if _is_idle(self) else _run(steps, "COMMIT", self)

    return _commit_gen


def _around_rollback_gen(original: Any) -> Any:
    def _rollback_gen(self: Any) -> Any:
        steps = original(self)
        return steps if _is_idle(self) else _run(steps, "ROLLBACK", self)

    return _rollback_gen


def _around_enter_gen(original: Any) -> Any:
    def _enter_gen(self: Any) -> Any:
        return _run(original(self), "BEGIN" if _is_idle(self.connection) else "SAVEPOINT", self.connection)

    return _enter_gen


def _around_exit_gen(original: Any) -> Any:
    def _exit_gen(self: Any, kind: Any, error: Any, tb: Any) -> Any:
        return _run(original(self, kind, error, tb), _end_of(self, error), self.connection)

    return _exit_gen


def _end_of(block: Any, error: Any) -> str:
    outer = getattr(block, "_outer_transaction", True)
    if error is None and not block.force_rollback:
        return "COMMIT" if outer else "RELEASE"
    return "ROLLBACK" if outer else "ROLLBACK TO"


def _around_sync_gen(original: Any) -> Any:
    def _sync_gen(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _run(original(self, *args, **kwargs), "SYNC", self._conn)

    return _sync_gen


# Connections and pools.


def _around_connect(original: Any) -> Any:
    def connect(cls: Any, *args: Any, **kwargs: Any) -> Any:
        with _sql.start(_sql.CONNECT, _anywhere) as span:
            return _note_database(span, original(cls, *args, **kwargs))

    return connect


def _around_connect_function(original: Any) -> Any:
    def connect(*args: Any, **kwargs: Any) -> Any:
        with _sql.start(_sql.CONNECT, _anywhere) as span:
            return _note_database(span, original(*args, **kwargs))

    return connect


def _around_connect_async(original: Any) -> Any:
    async def connect(cls: Any, *args: Any, **kwargs: Any) -> Any:
        with _sql.start(_sql.CONNECT, _anywhere) as span:
            return _note_database(span, await original(cls, *args, **kwargs))

    return connect


def _note_database(span: Any, connection: Any) -> Any:
    if span is not None:
        database = _database(connection)
        span.tags.update(database.tags)
        span.remote = database.remote
    return connection


def _around_getconn(original: Any) -> Any:
    def getconn(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self._pool:
            return original(self, *args, **kwargs)
        with _sql.start_wait(_anywhere):
            return original(self, *args, **kwargs)

    return getconn


def _around_getconn_async(original: Any) -> Any:
    async def getconn(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self._pool:
            return await original(self, *args, **kwargs)
        with _sql.start_wait(_anywhere):
            return await original(self, *args, **kwargs)

    return getconn


_cursor: Final = {
    "execute": _around_execute,
    "executemany": _around_execute,
    "stream": _around_stream,
    "copy": _around_copy,
}
_cursor_async: Final = {
    "execute": _around_execute_async,
    "executemany": _around_execute_async,
    "stream": _around_stream_async,
    "copy": _around_copy,
}
_ends: Final = {"_commit_gen": _around_commit_gen, "_rollback_gen": _around_rollback_gen}
_block: Final = {"_enter_gen": _around_enter_gen, "_exit_gen": _around_exit_gen}
_sync: Final = {"_sync_gen": _around_sync_gen, "_exit_gen": _around_sync_gen, "_fetch_gen": _around_sync_gen}
_TABLE: Final[dict[Any, dict[str, Any]]] = {
    psycopg: {"connect": _around_connect_function},  # a bound method, which was taken when psycopg was imported
    psycopg.Cursor: _cursor,
    psycopg.AsyncCursor: _cursor_async,
    psycopg.ServerCursor: {"execute": _around_execute, "_fetch_gen": _around_fetch_gen},
    psycopg.AsyncServerCursor: {"execute": _around_execute_async, "_fetch_gen": _around_fetch_gen},
    psycopg.Connection: {"connect": _around_connect, **_ends},
    psycopg.AsyncConnection: {"connect": _around_connect_async, **_ends},
    psycopg.Transaction: _block,
    psycopg.AsyncTransaction: _block,
    psycopg.Pipeline: _sync,
    psycopg.AsyncPipeline: _sync,
}
_pools: Final = Hooks(
    {
        "psycopg_pool.pool": ("ConnectionPool", {"getconn": _around_getconn}),
        "psycopg_pool.pool_async": ("AsyncConnectionPool", {"getconn": _around_getconn_async}),
    }
)
