"""The ends of a process at which Python runs nothing of ours by itself, and what is delivered before them.

A normal end runs ``atexit``. Children made by fork leave by ``os._exit``: multiprocessing, celery's pool, a bare
``os.fork()``. Reloaders become another program by ``os.exec*``. Both are wrapped, and behave as before in everything
else: same name, same signature, to be pickled by reference (``executor.submit(os._exit, 1)``). The end by SIGTERM is
in ``_sigterm``.
"""

from __future__ import annotations

import atexit
import functools
import os
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_LEAVE_BY: Final = ("_exit", "execv", "execve")  # the other exec functions end in these two

HAS_SIGNALS: Final = os.name == "posix"

_hooked = False  # what is wrapped stays wrapped


def hook(leave: Callable[[bool], None]) -> None:
    """Have ``leave`` called before each end, once: with True for one that is certain, False where it may yet fail."""
    global _hooked
    if _hooked:
        return
    _hooked = True
    atexit.register(leave, True)
    for name in _LEAVE_BY:
        if hasattr(os, name):
            setattr(os, name, _after(leave, getattr(os, name)))


def _after(leave: Callable[[bool], None], end: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(end)
    def end_after_delivery(*args: Any, **kwargs: Any) -> Any:
        try:
            leave(False)  # os._exit("x") and the exec of a file that is not there raise, and the program goes on
        except Exception:  # noqa: BLE001, S110 - nothing may stand in the way of an end
            pass
        return end(*args, **kwargs)

    end_after_delivery.__module__ = "os"  # where pickle finds it; the original says posix
    return end_after_delivery
