"""Any driver of Python's database API (PEP 249), by hand: ``wrap`` of its module or of a connection.

Nothing is hooked. What is returned stands in the place of the module, connection or cursor and passes everything on;
``isinstance`` does not know it, so a driver that has an integration of its own is better off with that.

Span: ``CLIENT``, the verb and the table (``SELECT items``). Tags: ``db.system``, ``db.statement`` (values replaced by
``?``), ``db.rows``, ``code.location``, and where it was told ``db.name`` and ``server.address``.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from clew.integrations import _sql

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clew.integrations._sql import Database

T = TypeVar("T")


def wrap(
    driver: T,
    *,
    system: str | None = None,
    name: str | None = None,
    host: str | None = None,
    port: int | None = None,
    escapes: bool = False,
) -> T:
    """Return a driver's module, or a connection, whose statements are spans. It is used as what was given.

    ``system``: the tag ``db.system``, by default the module's name. ``name``, ``host``, ``port``: of the database.
    ``escapes``: whether a backslash escapes in plain strings, as in MySQL; a wrong answer shows values. Safe in any
    thread as far as the driver is. Raises TypeError for what has neither ``connect`` nor ``cursor``.
    """
    known = driver.__name__ if isinstance(driver, ModuleType) else type(driver).__module__.partition(".")[0]
    database = _sql.database(system or known, name, host, port, escapes)
    if isinstance(driver, _Passing):
        return driver
    if hasattr(driver, "cursor"):
        return _Connection(driver, database)  # type: ignore[return-value]
    if hasattr(driver, "connect"):
        return _Module(driver, database)  # type: ignore[return-value]
    raise TypeError(f"{driver!r} has neither connect() nor cursor(): neither a driver's module nor a connection")


class _Passing:
    """Passes on to ``_inner`` whatever is not its own."""

    __slots__ = ("_database", "_inner")

    _inner: Any
    _database: Database

    def __init__(self, inner: Any, database: Database) -> None:
        object.__setattr__(self, "_inner", inner)
        object.__setattr__(self, "_database", database)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._inner, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._inner, name)

    def __dir__(self) -> list[str]:
        return dir(self._inner)

    def __repr__(self) -> str:
        return repr(self._inner)


class _Module(_Passing):
    __slots__ = ()

    def connect(self, *args: Any, **kwargs: Any) -> Any:
        with _sql.start(_sql.CONNECT, self._database):
            return _Connection(self._inner.connect(*args, **kwargs), self._database)


class _Connection(_Passing):
    __slots__ = ()

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        return _Cursor(self._inner.cursor(*args, **kwargs), self._database)

    def execute(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        with _sql.start(operation, self._database):
            return _traced(self._inner.execute(_sql.commented(operation), *args, **kwargs), self)

    def commit(self) -> Any:
        with _sql.start("COMMIT", self._database):
            return self._inner.commit()

    def rollback(self) -> Any:
        with _sql.start("ROLLBACK", self._database):
            return self._inner.rollback()

    def __enter__(self) -> Any:
        return _traced(self._inner.__enter__(), self)

    def __exit__(self, kind: Any, error: Any, tb: Any) -> Any:
        with _sql.start("COMMIT" if kind is None else "ROLLBACK", self._database):
            return self._inner.__exit__(kind, error, tb)


def _traced(result: Any, connection: _Connection) -> Any:
    """Return what a driver's connection gave: itself, or a cursor (an extension of some), or something else."""
    if result is connection._inner:
        return connection
    return _Cursor(result, connection._database) if hasattr(result, "fetchone") else result


class _Cursor(_Passing):
    __slots__ = ()

    def execute(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        with _sql.start(operation, self._database) as span:
            result = self._inner.execute(_sql.commented(operation), *args, **kwargs)
            _sql.note_rows(span, getattr(self._inner, "rowcount", None))
            return self if result is self._inner else result

    def executemany(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        with _sql.start(operation, self._database) as span:
            result = self._inner.executemany(_sql.commented(operation), *args, **kwargs)
            _sql.note_rows(span, getattr(self._inner, "rowcount", None))
            return self if result is self._inner else result

    def callproc(self, name: Any, *args: Any, **kwargs: Any) -> Any:
        with _sql.start(f"CALL {name}", self._database):
            return self._inner.callproc(name, *args, **kwargs)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._inner)

    def __next__(self) -> Any:
        return next(self._inner)

    def __enter__(self) -> Any:
        entered = self._inner.__enter__()
        return self if entered is self._inner else entered

    def __exit__(self, kind: Any, error: Any, tb: Any) -> Any:
        return self._inner.__exit__(kind, error, tb)
