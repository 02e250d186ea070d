"""Django's statements, of whatever database: one span each, also those that the ORM makes.

Between Django's cursors and the driver, whose own hook then makes no span (``_sql``). Hooked is what runs a statement
after Django's ``execute_wrappers``, on the class: connections that are open are covered, and their list of wrappers
stays the application's.

Span: ``CLIENT``, the verb and the table (``SELECT shop_order``), remote service the database (``postgresql``). Tags:
``db.system``, ``db.name``, ``server.address``, ``db.statement`` (values replaced by ``?``), ``db.rows``,
``code.location``. ``COMMIT``, ``ROLLBACK`` and ``CONNECT`` (with
what Django asks a new connection) are spans, too.
"""

from __future__ import annotations

from typing import Any, ClassVar

from clew._context import RemoteSpan, active, current
from clew.integrations import _sql
from clew.integrations._hooks import Hooks


def install() -> None:
    """Trace the statements of every connection."""
    _hooks.install()
    _debug_hooks.install()


def uninstall() -> None:
    """Undo ``install``."""
    _hooks.uninstall()
    _debug_hooks.uninstall()


def _start(connection: Any, sql: Any) -> Any:
    settings, vendor = connection.settings_dict, connection.vendor
    name = "" if vendor == "sqlite" else str(settings.get("NAME", ""))  # there it is a path
    host, port = str(settings.get("HOST", "")), str(settings.get("PORT", ""))
    return _sql.start(sql, _sql.database(vendor, name, host, port, vendor == "mysql"))


def _around_execute(original: Any) -> Any:
    def execute(self: Any, sql: Any, params: Any = None, *args: Any) -> Any:
        with _start(self.db, sql) as span:
            result = original(self, sql, params, *args)
            if span is not None:
                _sql.note_rows(span, getattr(self.cursor, "rowcount", None))
        return result

    return execute


def _around_callproc(original: Any) -> Any:
    def callproc(self: Any, procname: Any, *args: Any, **kwargs: Any) -> Any:
        with _start(self.db, f"CALL {procname}"):
            return original(self, procname, *args, **kwargs)

    return callproc


def _around_commit(original: Any) -> Any:
    def commit(self: Any) -> Any:
        if self.connection is None:
            return original(self)
        with _start(self, "COMMIT"):
            return original(self)

    return commit


def _around_rollback(original: Any) -> Any:
    def rollback(self: Any) -> Any:
        if self.connection is None:
            return original(self)
        with _start(self, "ROLLBACK"):
            return original(self)

    return rollback


def _around_connect(original: Any) -> Any:
    def connect(self: Any) -> Any:
        with _start(self, "CONNECT"):
            return original(self)

    return connect


_hooks = Hooks(
    {
        "django.db.backends.utils": (
            "CursorWrapper",
            {"_execute": _around_execute, "_executemany": _around_execute, "callproc": _around_callproc},
        ),
        "django.db.backends.base.base": (
            "BaseDatabaseWrapper",
            {"connect": _around_connect, "_commit": _around_commit, "_rollback": _around_rollback},
        ),
    }
)
# With DEBUG on (and for the debug toolbar) Django asks sqlite afterwards how the values would be written: by SQL, which
# the driver's hook would take for the program's.


class _Statement(RemoteSpan):
    """The position of a statement that has its span already: what runs below it has none."""

    __slots__ = ()
    tags: ClassVar[dict[str, str]] = {_sql.STATEMENT: ""}


def _around_quote(original: Any) -> Any:
    def quote(self: Any, params: Any) -> Any:
        node = active()
        if node is None:
            return original(self, params)
        previous = current.get()
        current.set(_Statement(node.trace, node.span_id, node.parent_id))
        try:
            return original(self, params)
        finally:
            current.set(previous)

    return quote


_debug_hooks = Hooks(
    {
        "django.db.backends.sqlite3.operations": (
            "DatabaseOperations",
            {"_quote_params_for_last_executed_query": _around_quote},
        )
    }
)
