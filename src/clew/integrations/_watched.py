"""Hooks into a family of classes whose methods cannot always be replaced. For `_signs`.

The queues and events that ``gevent.monkey`` puts in place of Python's are classes of C that take no patch. There each
gets a stand-in: a subclass by the same name, under which the program finds it from then on. What it had imported by
name before, and objects that it had made, stay as they are and are not watched.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from clew._patch import patch, unpatch
from clew.integrations import _imports

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

_HEAP_TYPE: Final = 1 << 9  # of type.__flags__: made by a class statement, or as if
_IMMUTABLE_TYPE: Final = 1 << 8  # since 3.10


class Watched:
    """Classes of one module: the methods of the first, which the others inherit, or of a stand-in for each.

    ``wrappers``: by a method's name, as `patch` takes them.
    """

    def __init__(self, module: str, names: tuple[str, ...], wrappers: Mapping[str, Callable[[Any], Any]]) -> None:
        self._module = module
        self._names = names
        self._wrappers = wrappers
        self._hooked: list[type] = []

    def install(self) -> None:
        """Hook them if they are imported, else once they are. Idempotent."""
        _imports.when_imported(self._module, self._follow)

    def uninstall(self) -> None:
        """Take the hooks and the stand-ins out, and wait no more. Idempotent. A stand-in's objects pass on."""
        _imports.forget(self._module, self._follow)
        while self._hooked:
            owner = self._hooked.pop()
            for method in self._wrappers:
                unpatch(owner, method)
        module = sys.modules.get(self._module)
        for name in self._names:
            stand_in = getattr(module, name, None)
            if stand_in in _plain:
                setattr(module, name, _plain[stand_in])

    def _follow(self, module: ModuleType) -> None:
        for name in self._names:
            owner = getattr(module, name, None)
            if owner is None:  # an older version has it not
                continue
            if not takes_patches(owner):
                owner = _stand_in(owner, module.__name__)
                setattr(module, name, owner)
            elif owner not in _plain and name != self._names[0]:
                continue  # it inherits
            self._hooked.append(owner)
            for method, make in self._wrappers.items():
                patch(owner, method, make)


def takes_patches(owner: type) -> bool:
    """Tell whether methods of a class can be replaced."""
    return bool(owner.__flags__ & _HEAP_TYPE) and not owner.__flags__ & _IMMUTABLE_TYPE


_stand_ins: dict[type, type] = {}
_plain: dict[Any, type] = {}


def _stand_in(plain: type, module: str) -> type:
    """Make an empty subclass, one for each class, wherever it is found."""
    if plain not in _stand_ins:
        names = {"__slots__": (), "__module__": module, "__qualname__": plain.__qualname__, "__doc__": plain.__doc__}
        _stand_ins[plain] = type(plain.__name__, (plain,), names)
        _plain[_stand_ins[plain]] = plain
    return _stand_ins[plain]
