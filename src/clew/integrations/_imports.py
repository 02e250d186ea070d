"""Run a function once a module has been imported: now if it has, else right after its import. Imports nothing itself.

Between ``instrument()`` and Python's import system: one finder on ``sys.meta_path``, there while something is awaited.
A function that fails is reported once and does not disturb the import.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

from clew.reporter import warn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    Function = Callable[[ModuleType], None]

_awaited: dict[str, list[Function]] = {}
explain: Callable[[ModuleType, Exception | None], None] | None = None  # told of each hook, where that was asked for


def when_imported(module: str, function: Function) -> bool:
    """Call ``function(module)`` after the import of ``module``, which may be now. Asked twice, it is called once.

    Returns False where it was called at once and failed.
    """
    loaded = sys.modules.get(module)
    if loaded is not None and not getattr(getattr(loaded, "__spec__", None), "_initializing", False):
        return _call(function, loaded)
    functions = _awaited.setdefault(module, [])
    if function not in functions:
        functions.append(function)
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    return True


def forget(module: str, function: Function) -> None:
    """Await the import no more."""
    functions = _awaited.get(module, [])
    if function in functions:
        functions.remove(function)
    if not functions:
        _awaited.pop(module, None)
    if not _awaited and _finder in sys.meta_path:
        sys.meta_path.remove(_finder)


def _call(function: Function, module: ModuleType) -> bool:
    failure = None
    try:
        function(module)
    except Exception as problem:  # noqa: BLE001 - a library of an odd version must go on as if we were not there
        failure = problem
        warn("%s %s is not traced: %r", module.__name__, version(module) or "of unknown version", problem)
    if explain is not None:
        explain(module, failure)
    return failure is None


def version(module: ModuleType) -> str:
    """Return the version of a module's package, or nothing."""
    package = sys.modules.get(module.__name__.partition(".")[0], module)
    found = vars(package).get("__version__")  # not by getattr(), which some packages answer with a warning
    return found if isinstance(found, str) else ""


class _Finder:
    """Finds awaited modules by the other finders, and has their loader call us when the module is there."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _awaited:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(name, path, target) if find and finder is not self else None
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = cast("Any", _Loader(name, spec.loader))
                return spec
        return None


class _Loader:
    """Stands in for a module's loader while the module is being executed, no longer."""

    def __init__(self, name: str, loader: Any) -> None:
        self._name = name
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        module = sys.modules.get(self._name, module)  # some replace themselves, or their names, while they run
        for function in tuple(_awaited.get(self._name, ())):
            forget(self._name, function)
            _call(function, module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)  # is_package, get_code, get_resource_reader


_finder: Any = _Finder()
