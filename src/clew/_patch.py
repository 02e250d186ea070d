"""Put a function of ours around one of a library's, and take it out again: the one way to change foreign code.

Functions of classes and modules are replaced, never attributes of objects: clients, sessions and apps that were made
before are covered, and nothing hangs on them. The wrapper looks like what it wraps (name, signature, coroutine function
or not, found by pickle) and leaves everything that is not about tracing to it.

Others patch the same functions, before and after us. What lies below us is called; what lies above us stays when we
are taken out. Then our wrapper cannot be removed, for the other one calls it, but it can be made to do nothing: it gets
the code of ``pass_on``. So a wrapper pays nothing for being switched off one day. That is why it must not close over
anything but ``original``.
"""

from __future__ import annotations

import functools
import sys
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

_ABSENT: Final = object()
_COROUTINE: Final = 0x80  # inspect.CO_COROUTINE, without the import
_MAX_LAYERS: Final = 50  # of functions around functions that are looked through
_FUNCTIONS: Final = (FunctionType, MethodType, staticmethod, classmethod, functools.partial)


def patch(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Set ``owner.name`` to ``make(original)``, a function whose only free variable is ``original``. Idempotent.

    A static method or class method stays one, and ``original`` is the plain function in it. What a class inherits is
    looked up at each call, so that its base may be patched later. Raises AttributeError where there is no such name,
    TypeError where it is no function (a property, say) or the owner takes no attributes.
    """
    found = vars(owner).get(name, _ABSENT)
    hooks = _hooks.setdefault((id(owner), name), [])
    for hook in hooks:
        if _reaches(found, hook.wrapper):
            hook.wrapper.__code__ = hook.code
            return
    hook = _Hook(owner, name, found, make)
    hooks.append(hook)  # first: two threads that come at once must not wrap each other's wrapper
    try:
        setattr(owner, name, hook.installed)
    except BaseException:
        hooks.remove(hook)
        raise


def unpatch(owner: Any, name: str) -> None:
    """Put the original back; where somebody else patched on top of us, theirs stays and ours does nothing. Idempotent.

    Whoever kept our function meanwhile (a subclass, an alias) calls the original from now on.
    """
    hooks = _hooks.get((id(owner), name), [])
    for hook in reversed(hooks):
        hook.wrapper.__code__ = _pass_on_async if hook.code.co_flags & _COROUTINE else _pass_on
        if vars(owner).get(name) is hook.installed:
            hook.put_back()
            hooks.remove(hook)


class _Hook:
    """One wrapper: where it is, what it is around, and the code that it runs while it is switched on."""

    def __init__(self, owner: Any, name: str, found: Any, make: Callable[[Any], Any]) -> None:
        self._owner = owner  # keeps it alive, so that its id stays its own
        self._name = name
        self._found = found
        plain = getattr(owner, name) if found is _ABSENT else found
        kind = type(plain) if isinstance(plain, (staticmethod, classmethod)) else None
        original = plain.__func__ if kind else plain
        if isinstance(original, property) or not callable(original):
            raise TypeError(f"{name} is a {type(original).__name__}, not a function")
        if isinstance(owner, type) and found is _ABSENT:
            original = _inherited(owner, name, original)
        elif isinstance(owner, type) and not kind and not _gets_self(original):
            original = _without_self(original)
        self.wrapper = _dress(make(original), original, owner)
        self.code: CodeType = self.wrapper.__code__
        self.installed = kind(self.wrapper) if kind else self.wrapper

    def put_back(self) -> None:
        if self._found is _ABSENT:
            delattr(self._owner, self._name)  # it was inherited
        else:
            setattr(self._owner, self._name, self._found)


_hooks: dict[tuple[int, str], list[_Hook]] = {}  # more than one where somebody threw ours away and we came again


def _dress(wrapper: FunctionType, original: Any, owner: Any) -> FunctionType:
    """Make a wrapper look like what it is around."""
    if wrapper.__code__.co_freevars != ("original",):
        raise TypeError(f"{wrapper.__qualname__} closes over {wrapper.__code__.co_freevars}, not just `original`")
    functools.update_wrapper(wrapper, original)
    if isinstance(owner, ModuleType):
        wrapper.__module__ = owner.__name__  # pickle looks there; the original may be of a module in C
    code = getattr(original, "__code__", None)
    if code is not None and code.co_flags & _COROUTINE and not wrapper.__code__.co_flags & _COROUTINE:
        _mark_coroutine_function(wrapper)
    return wrapper


def _mark_coroutine_function(wrapper: Any) -> None:
    """Have a plain function that returns the original's coroutine taken for what the original is."""
    if sys.version_info >= (3, 12):
        from inspect import markcoroutinefunction

        markcoroutinefunction(wrapper)
    else:
        from asyncio import coroutines

        wrapper._is_coroutine = coroutines._is_coroutine  # type: ignore[attr-defined]


def _inherited(owner: type, name: str, example: Any) -> Any:
    @functools.wraps(example)
    def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return getattr(super(owner, self), name)(*args, **kwargs)

    return call


def _gets_self(original: Any) -> bool:
    """Tell whether it is called with ``self`` as a method. A partial is from 3.14 on; 3.13 warns of that."""
    if isinstance(original, functools.partial):
        return sys.version_info >= (3, 14)
    return hasattr(original, "__get__")


def _without_self(original: Any) -> Any:
    """Call what is no function, and so gets no ``self`` when it is called as a method: a mock, a partial."""

    def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs)

    return functools.update_wrapper(call, original)


def _reaches(top: Any, wrapper: FunctionType) -> bool:
    """Tell whether a call of ``top`` comes to our wrapper, as far as one can see: by ``__wrapped__`` and closures."""
    seen = [top]
    for layer in seen:  # grows meanwhile
        if layer is wrapper:
            return True
        if len(seen) < _MAX_LAYERS:
            seen += [inner for inner in _inside(layer) if isinstance(inner, _FUNCTIONS) and inner not in seen]
    return False


def _inside(layer: Any) -> list[Any]:
    inside = [getattr(layer, name, None) for name in ("__wrapped__", "__func__", "func")]
    for cell in getattr(layer, "__closure__", None) or ():
        try:
            inside.append(cell.cell_contents)
        except ValueError:  # not filled yet
            pass
    return inside


def _make_pass_on(original: Any) -> Any:
    def pass_on(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs)

    return pass_on


def _make_pass_on_async(original: Any) -> Any:
    async def pass_on(*args: Any, **kwargs: Any) -> Any:
        return await original(*args, **kwargs)

    return pass_on


_pass_on: Final[CodeType] = _make_pass_on(None).__code__
_pass_on_async: Final[CodeType] = _make_pass_on_async(None).__code__
