"""aiomysql: connections, cursors and pools.

Hooked, on the classes, so that connections and pools made before are covered: ``Cursor.execute``, ``executemany``,
``callproc``, ``Connection._connect``, ``begin``, ``commit``, ``rollback``, and the wait of a ``Pool`` that has no
connection to give. The spans are those of `_mysql`.

Tested with aiomysql 0.2 and 0.3.
"""

from __future__ import annotations

from typing import Final

from clew.integrations import _mysql
from clew.integrations._hooks import Hooks


def install() -> None:
    """Trace all connections, also those that are open."""
    _hooks.install()


def uninstall() -> None:
    """Undo ``install``."""
    _hooks.uninstall()


_hooks: Final = Hooks(
    {
        "aiomysql.cursors": ("Cursor", _mysql.CURSOR_ASYNC),
        "aiomysql.connection": ("Connection", {"_connect": _mysql.around_connect_async, **_mysql.ENDS_ASYNC}),
        "aiomysql.pool": ("Pool", {"_acquire": _mysql.around_acquire_async}),
    }
)
