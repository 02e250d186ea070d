"""Classes of C that take no patch: a traced subclass in their place. For the drivers that let one choose the class."""

from __future__ import annotations

import types
from functools import lru_cache


@lru_cache(64)
def subclass(factory: type, plain: type, traced: type) -> type:
    """Put our methods between the application's class and the driver's: its ``super()`` then calls ours.

    A class that does not let itself be subclassed (``__init_subclass__``, a metaclass) is used as it is, untraced.
    """
    if factory is plain:
        return traced
    if not issubclass(factory, plain) or issubclass(factory, traced):
        return factory
    names = {"__module__": factory.__module__, "__qualname__": factory.__qualname__, "__doc__": factory.__doc__}
    try:
        return types.new_class(factory.__name__, (factory, traced), exec_body=lambda own: own.update(names))
    except Exception:  # noqa: BLE001 - the boundary to the application's own class
        return factory


def look_like(traced: type, plain: type) -> None:
    """Name a class as the driver does, for ``repr`` and log lines."""
    traced.__name__, traced.__qualname__, traced.__module__ = plain.__name__, plain.__qualname__, plain.__module__
