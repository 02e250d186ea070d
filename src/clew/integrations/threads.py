"""Threads and thread pools: what a request starts in another thread stays in its trace. Makes no span.

Hooked: ``ThreadPoolExecutor.submit`` (and so ``map``, ``loop.run_in_executor``): a job runs in the context of whoever
submitted it, and leaves none to the next job. ``Thread.start`` (and so ``Timer``): the thread begins in the context of
whoever started it. A pool's own worker threads begin outside of any trace, though a request made them start.

Tested with CPython 3.10 to 3.13.
"""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from clew._context import Node, current
from clew._patch import patch, unpatch


def install() -> None:
    """Follow the context into threads and pools, also into pools that exist already."""
    patch(ThreadPoolExecutor, "submit", _around_submit)
    patch(threading.Thread, "start", _around_start)


def uninstall() -> None:
    """Undo ``install``."""
    unpatch(ThreadPoolExecutor, "submit")
    unpatch(threading.Thread, "start")


class _Job:
    """A callable that runs in the context of the one who handed it in."""

    __slots__ = ("_function", "_node")

    def __init__(self, function: Any, node: Node) -> None:
        self._function = function
        self._node = node

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        previous = current.get()
        current.set(self._node)
        try:
            return self._function(*args, **kwargs)
        finally:
            current.set(previous)


def _around_submit(original: Any) -> Any:
    def submit(self: ThreadPoolExecutor, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        node = current.get()
        if node is None or _runs_elsewhere(self):
            return original(self, fn, *args, **kwargs)
        return original(self, _Job(fn, node), *args, **kwargs)

    return submit


def _runs_elsewhere(executor: ThreadPoolExecutor) -> bool:
    """Tell a pool of interpreters (since 3.14), to which a job goes as a pickle: a context cannot go along."""
    module = sys.modules.get("concurrent.futures.interpreter")
    return module is not None and isinstance(executor, module.InterpreterPoolExecutor)


def _around_start(original: Any) -> Any:
    def start(self: threading.Thread) -> None:
        node = current.get()
        if node is not None and not _is_pool_worker(self):
            _begin_in(self, node)
        original(self)

    return start


def _begin_in(thread: threading.Thread, node: Node) -> None:
    run = thread.run

    def run_in_trace() -> None:
        del thread.run  # our attribute in front of the method: no reference cycle remains
        current.set(node)
        run()

    thread.run = run_in_trace  # type: ignore[method-assign]


def _is_pool_worker(thread: threading.Thread) -> bool:
    target = getattr(thread, "_target", None)
    return getattr(target, "__module__", None) == "concurrent.futures.thread"
