"""The context variable on CPython 3.10 to 3.12. Beneath ``_context``; 3.13 and later never import this file.

The fault of 3.10 and 3.11. The garbage collector runs wherever a container is allocated, and with it Python code:
finalizers (``__del__``, generators that nobody ran to their end), weakref callbacks, ``gc.callbacks``, and inside any
of these the handlers of signals. ``ContextVar.set()``, ``ContextVar.reset()`` and ``copy_context()`` allocate while
they work on the context's mapping without a reference of their own. Code that sets any variable of that context
meanwhile has three effects: the mapping is freed under the hands of whoever works on it (a crash, or a context that
seems empty); what the inner code has set is lost, for the outer call goes on with the old mapping; and the variable's
cache keeps pointing to the lost value, which is freed.

So two things are seen to here, of which the second also protects what the program itself does with its variables:

* **Nothing is collected inside our own** ``set``: collection is switched off and on again around it, the three steps in
  one call of C (an ``attrgetter`` of three properties). Between them no bytecode runs, so no other thread and no signal
  handler ever sees the collector switched off. What finalizers set meanwhile cannot get lost, since none runs.
* **What the collector runs leaves the mapping that it interrupted alive**: a span that starts there (a finalizer's, a
  signal handler's) has the mapping held until the collection is over; a span that ends there is only marked as ended
  (``ValueError`` from ``reset``), so that nothing is set.

Which code runs inside a collection is told by two of ``gc.callbacks``, the first and the last. They are made of C only,
since a signal handler could run before the first line of a Python function.
"""

from __future__ import annotations

import gc
import sys
from _frozen_importlib import BuiltinImporter, module_from_spec
from contextvars import Context, ContextVar, Token, copy_context
from functools import partial
from operator import attrgetter, methodcaller
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from clew._context import Node


# The module _thread anew: gevent may have replaced what is in the one of sys.modules by greenlets, and it is threads
# that collect.
_spec: Any = BuiltinImporter.find_spec("_thread")
_thread: Any = module_from_spec(_spec)
_spec.loader.exec_module(_thread)


class _Here(_thread._local):  # type: ignore[misc]
    collects = False  # whether this thread is inside a collection


_here: Final = _Here()
_collections: Final[set[str]] = set()  # not empty: one is under way, in whichever thread; there is never a second
_held: Final[list[tuple[Context, Node | None]]] = []  # what spans that were started inside collections leave alive


class _Begin:
    """Its attribute ``start`` notes that a collection begins: ``getattr(_Begin(), "start", ...)`` calls C alone."""

    note = partial(_collections.add, "under way")
    note_here = partial(setattr, _here, "collects", True)
    start = property(attrgetter("_note", "_note_here"))
    _note = property(methodcaller("note"))
    _note_here = property(methodcaller("note_here"))


class _End:
    """The same for its end."""

    note = _collections.clear
    note_here = partial(setattr, _here, "collects", False)
    stop = property(attrgetter("_note_here", "_note"))
    _note = property(methodcaller("note"))
    _note_here = property(methodcaller("note_here"))


_begin: Final = partial(getattr, _Begin())  # the collector calls it with "start" or "stop", and a dict: the default
_end: Final = partial(getattr, _End())


class _Switch:
    """Its attributes ``_off`` and ``_on`` switch collection when they are read."""

    _is_enabled = gc.isenabled
    _disable = gc.disable
    _enable = gc.enable
    _was = property(methodcaller("_is_enabled"))
    _off = property(methodcaller("_disable"))
    _on = property(methodcaller("_enable"))


class GuardedVar:
    """A ``ContextVar`` of nodes whose ``set`` and ``reset`` are safe inside and outside of collections, in any thread.

    ``get`` is the variable's own. ``reset`` raises ValueError in another context than the token's, which then has the
    old value, too; and inside of a collection, where it changes nothing.
    """

    __slots__ = ("get", "reset", "set")

    def __init__(self, var: ContextVar[Node | None], node_type: type[Node]) -> None:
        self.get = var.get
        self.set, self.reset = _guard(var, node_type)


def _guard(var: ContextVar[Node | None], node_type: type[Node]) -> tuple[Any, Any]:
    """Return ``set`` and ``reset``: closures, which call faster than methods."""
    for name in ("_is_enabled", "_disable", "_enable", "_was", "_off", "_on"):
        setattr(node_type, name, vars(_Switch)[name])
    node_type._put = property(var.set)  # type: ignore[attr-defined]  # to read node._put makes the node active
    nowhere = {"_clear": partial(var.set, None), "_put": property(methodcaller("_clear"))}
    nothing: Any = type("_Nothing", (_Switch,), nowhere)()  # to read nothing._put makes no node active
    put: Any = attrgetter("_was", "_off", "_put", "_on")
    set_plainly, reset_plainly, is_on, missing = var.set, var.reset, gc.isenabled, Token.MISSING

    def set_guarded(node: Node | None) -> Token[Node | None]:
        if _collections and _here.collects:
            _held.append((copy_context(), node))
            return set_plainly(node)
        if is_on():
            try:
                was_on, _, token, _ = put(nothing if node is None else node)
            except BaseException:  # memory ran out
                gc.enable()
                raise
            if not was_on:  # another thread switched it off since we looked
                gc.disable()
        else:
            token = set_plainly(node)
        if token.old_value is missing:  # reset() would have to take the variable out
            set_guarded(None)
            return set_guarded(node)
        if _held and not _collections:  # what interrupted collections have come to their end
            _held.clear()
        return token  # type: ignore[no-any-return]

    def reset_guarded(token: Token[Node | None]) -> None:
        if _collections and _here.collects:
            raise ValueError("inside of a collection")
        old = token.old_value
        if is_on():
            try:
                was_on, _, _, _ = put(old or nothing)
            except BaseException:
                gc.enable()
                raise
            if not was_on:
                gc.disable()
        else:
            set_plainly(old)
        if old is None:  # once a trace is often enough to look
            watch_collections()
        reset_plainly(token)  # whose value is there already, so nothing is allocated: it only looks at the context

    return set_guarded, reset_guarded


class CheckedVar:
    """The same for 3.12, where collections wait for the next bytecode, and ``set`` is safe.

    ``ContextVar.reset()`` is not there: tried on tokens of other contexts while several threads collect, it crashed
    3.12.1 within seconds. So the old value is set, and the two tokens are asked whether they are of one context.
    """

    __slots__ = ("get", "reset", "set")

    def __init__(self, var: ContextVar[Node | None]) -> None:
        set_plainly, missing = var.set, Token.MISSING

        def reset_checked(token: Token[Node | None]) -> None:
            old = token.old_value
            contexts = gc.get_referents(
                set_plainly(None if old is missing else old), token
            )  # of each the first of three
            if contexts[0] is not contexts[3]:
                raise ValueError("made in another context")

        self.get: Any = var.get
        self.set: Any = set_plainly
        self.reset: Any = reset_checked


def watch_collections() -> None:
    """Be the first and the last to be told of each collection, also where others have put themselves there since."""
    callbacks = gc.callbacks
    if not callbacks or callbacks[0] is not _begin or callbacks[-1] is not _end:
        for callback in (_begin, _end):
            if callback in callbacks:
                callbacks.remove(callback)
        callbacks.insert(0, _begin)
        callbacks.append(_end)


if sys.version_info < (3, 12):
    watch_collections()
