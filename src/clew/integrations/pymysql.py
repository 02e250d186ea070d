"""PyMySQL.

Hooked, on the classes, so that connections made before are covered: ``Cursor.execute``, ``executemany``, ``callproc``,
``Connection.connect``, ``begin``, ``commit``, ``rollback``. The spans are those of `_mysql`. An unbuffered cursor's
(``SSCursor``) ends when the first row is there.

Tested with PyMySQL 1.0 and 1.2.
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
        "pymysql.cursors": ("Cursor", _mysql.CURSOR),
        "pymysql.connections": ("Connection", {"connect": _mysql.around_connect, **_mysql.ENDS}),
    }
)
