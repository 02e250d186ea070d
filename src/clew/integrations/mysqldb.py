"""mysqlclient (``MySQLdb``).

Hooked, on its classes of Python above those of C, so that connections made before are covered: ``BaseCursor.execute``,
``executemany``, ``callproc``, ``Connection``'s constructor, ``begin``, ``commit``, ``rollback``. The spans are those of
`_mysql`; older releases do not tell where a connection goes.

Tested with mysqlclient 2.3.
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
        "MySQLdb.cursors": ("BaseCursor", _mysql.CURSOR),
        "MySQLdb.connections": ("Connection", {"__init__": _mysql.around_connect, **_mysql.ENDS}),
    }
)
