"""pymemcache: ``Client``, and so ``PooledClient``, ``HashClient`` and ``RetryingClient``, which ask by it.

Hooked, on the class, so that clients made before are covered, are the three ways to the server that all commands take:
``_fetch_cmd``, ``_store_cmd``, ``_misc_cmd``.

Span: ``CLIENT``, the command (``GET``), remote service ``memcached``. Tags: ``db.system``, ``server.address``,
``db.statement`` (the command, with ``?`` in the place of each key), ``db.rows`` (of what is fetched: how many keys were
there), ``code.location``. A ``HashClient`` makes one for each server that it asks. Outside any trace a command makes
none, as SQL does not.

Tested with pymemcache 4.0.
"""

from __future__ import annotations

from typing import Any, Final

from clew.integrations import _sql
from clew.integrations._hooks import Hooks

_SYSTEM: Final = "memcached"
_MAX_KEYS: Final = 3  # that are shown, each as a question mark
_anywhere: Final = _sql.database(_SYSTEM, None, None, None)


def install() -> None:
    """Trace all clients, also those that exist."""
    _hooks.install()


def uninstall() -> None:
    """Undo ``install``."""
    _hooks.uninstall()


def _start(client: Any, command: Any, keys: Any) -> Any:
    name = command.decode("ascii", "replace") if isinstance(command, bytes) else str(command)
    count = len(keys) if hasattr(keys, "__len__") else 1
    shown = name.upper() + " ?" * min(count, _MAX_KEYS) + (" ..." if count > _MAX_KEYS else "")
    server = getattr(client, "server", None)
    if not isinstance(server, tuple):
        return _sql.start(shown, _anywhere)
    return _sql.start(shown, _sql.database(_SYSTEM, None, server[0], server[1]))


def _around_fetch(original: Any) -> Any:
    def _fetch_cmd(self: Any, name: Any, keys: Any, *args: Any, **kwargs: Any) -> Any:
        with _start(self, name, keys) as span:
            found = original(self, name, keys, *args, **kwargs)
            if span is not None:
                _sql.note_rows(span, len(found))
            return found

    return _fetch_cmd


def _around_store(original: Any) -> Any:
    def _store_cmd(self: Any, name: Any, values: Any, *args: Any, **kwargs: Any) -> Any:
        with _start(self, name, values):
            return original(self, name, values, *args, **kwargs)

    return _store_cmd


def _around_misc(original: Any) -> Any:
    def _misc_cmd(self: Any, cmds: Any, cmd_name: Any, *args: Any, **kwargs: Any) -> Any:
        with _start(self, cmd_name, cmds):
            return original(self, cmds, cmd_name, *args, **kwargs)

    return _misc_cmd


_hooks: Final = Hooks(
    {
        "pymemcache.client.base": (
            "Client",
            {"_fetch_cmd": _around_fetch, "_store_cmd": _around_store, "_misc_cmd": _around_misc},
        ),
    }
)
