"""Hooks into classes of several modules, each put in once its module is imported. For integrations of more than one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from clew._patch import patch, unpatch
from clew.integrations import _imports

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType


class Hooks:
    """A table of wrappers: by module, the name of a class in it and its methods' wrappers, as `patch` takes them.

    Without a class (an empty name) they are those of the module's own functions.
    """

    def __init__(self, table: Mapping[str, tuple[str, Mapping[str, Callable[[Any], Any]]]]) -> None:
        self._table = table

    def install(self) -> None:
        """Hook what is imported, and the rest when it is. Idempotent."""
        for module in self._table:
            _imports.when_imported(module, self._follow)

    def uninstall(self) -> None:
        """Take the hooks out, and wait no more. Idempotent."""
        for module, (owner, wrappers) in self._table.items():
            _imports.forget(module, self._follow)
            if module in sys.modules:
                for name in wrappers:
                    unpatch(_owner(sys.modules[module], owner), name)

    def _follow(self, module: ModuleType) -> None:
        owner, wrappers = self._table[module.__name__]
        for name, make in wrappers.items():
            patch(_owner(module, owner), name, make)


def _owner(module: ModuleType, name: str) -> Any:
    return getattr(module, name) if name else module
