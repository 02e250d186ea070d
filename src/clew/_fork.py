"""Imports on threads of ours, kept apart from forks. Below everything.

A child that is forked while a thread imports a module inherits that module's lock, held for ever by a thread that it
does not have: its next import of the module never ends. So a fork waits for an import of ours: milliseconds.
"""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock, get_ident
from typing import Any, Final

_MAX_WAIT_S: Final = 10.0  # then the fork goes on: an import that waits for the forking thread must not stop it

_importing = allocate_lock()
_forking: set[int] = set()  # threads whose hold of the lock it is


def import_apart_from_forks(name: str) -> Any:
    """Import a module by its full name."""
    with _importing:
        __import__(name)
        return sys.modules[name]


def _before() -> None:
    if _importing.acquire(timeout=_MAX_WAIT_S):
        _forking.add(get_ident())


def _after_in_parent() -> None:
    if get_ident() in _forking:
        _forking.discard(get_ident())
        _importing.release()


def _after_in_child() -> None:
    global _importing
    _importing = allocate_lock()
    _forking.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
