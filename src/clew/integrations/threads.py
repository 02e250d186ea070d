"""Threads and thread pools: what a request starts in another thread stays in its trace. Makes no span.

Hooked: ``Thread.start`` and ``Thread._bootstrap_inner`` (and so ``Timer``): the thread begins at its starter's
position; nothing is put on the thread, so its ``run`` may be anything. Which threads are workers and belong to nobody,
`_workers` says. Of pools and workers that are known, each job has its submitter's trace:
``ThreadPoolExecutor.submit`` (and so ``map``, ``loop.run_in_executor``), ``Future.add_done_callback``,
``multiprocessing.pool.ThreadPool``, aiosqlite (and so SQLAlchemy's asyncio engine on it). Jobs of an APScheduler belong
to nobody, whoever started or woke it.

Tested with CPython 3.10 to 3.13, aiosqlite 0.22, SQLAlchemy 2.0, APScheduler 3.11, joblib 1.5.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

from clew._context import Node, active, current
from clew._patch import patch, unpatch
from clew.integrations import _signs, _workers
from clew.integrations._hooks import Hooks
from clew.integrations._jobs import Job, carry, carry_callback, carry_steps


def install() -> None:
    """Follow the context into threads and pools, also into pools that exist already."""
    patch(threading.Thread, "start", _around_start)
    patch(threading.Thread, "_bootstrap_inner", _around_bootstrap)
    _signs.install()
    _pools.install()


def uninstall() -> None:
    """Undo ``install``."""
    _pools.uninstall()
    _signs.uninstall()
    unpatch(threading.Thread, "_bootstrap_inner")
    unpatch(threading.Thread, "start")


# Threads.

_starting: dict[int, tuple[threading.Thread, Node]] = {}  # by id: a thread's class may have no hash


def _around_start(original: Any) -> Any:
    def start(self: threading.Thread) -> None:
        if active() is None or getattr(self, "_context", None) is not None:  # since 3.14 a context may be given
            original(self)
        else:
            _start_in_trace(original, self, sys._getframe(1).f_globals.get("__name__"))

    return start


def _start_in_trace(start: Any, thread: threading.Thread, starter: Any) -> None:
    node = _workers.position_for(thread, starter)
    if node is None:
        Job(start, None)(thread)  # also where a thread inherits all variables: gevent's, and free threads' since 3.14
        return
    _starting[id(thread)] = (thread, node)
    try:
        start(thread)
    finally:
        _starting.pop(id(thread), None)  # there is none: the thread has taken it, or could not be started


def _around_bootstrap(original: Any) -> Any:
    def _bootstrap_inner(self: threading.Thread) -> None:
        entry = _starting.pop(id(self), None)
        if entry is not None and entry[0] is self:
            context = getattr(self, "_context", None)  # since 3.14, in which the thread will run
            if context is None:
                current.set(entry[1])
            else:
                context.run(current.set, entry[1])
        original(self)

    return _bootstrap_inner


# Pools.


def _around_submit(original: Any) -> Any:
    def submit(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        return original(self, fn if _runs_elsewhere(self) else carry(fn), *args, **kwargs)

    return submit


def _runs_elsewhere(executor: Any) -> bool:
    """Tell a pool of interpreters (since 3.14), to which a job goes as a pickle: a context cannot go along."""
    module = sys.modules.get("concurrent.futures.interpreter")
    return module is not None and isinstance(executor, module.InterpreterPoolExecutor)


def _around_add_done_callback(original: Any) -> Any:
    def add_done_callback(self: Any, fn: Any) -> None:
        original(self, carry(fn))

    return add_done_callback


def _around_apply_async(original: Any) -> Any:
    def apply_async(
        self: Any, func: Any, args: Any = (), kwds: Any = None, callback: Any = None, error_callback: Any = None
    ) -> Any:
        kwds = {} if kwds is None else kwds
        return original(self, carry(func), args, kwds, carry_callback(callback), carry_callback(error_callback))

    return apply_async


def _around_map_async(original: Any) -> Any:
    def _map_async(
        self: Any,
        func: Any,
        iterable: Any,
        mapper: Any,
        chunksize: Any = None,
        callback: Any = None,
        error_callback: Any = None,
    ) -> Any:
        callbacks = (carry_callback(callback), carry_callback(error_callback))
        return original(self, carry(func), iterable, mapper, chunksize, *callbacks)

    return _map_async


def _around_imap(original: Any) -> Any:
    def imap(self: Any, func: Any, iterable: Any, chunksize: int = 1) -> Any:
        return original(self, carry(func), carry_steps(iterable), chunksize)

    return imap


# Libraries that keep a worker.


def _around_execute(original: Any) -> Any:
    def _execute(self: Any, fn: Any, *args: Any, **kwargs: Any) -> Any:
        return original(self, carry(fn), *args, **kwargs)

    return _execute


def _around_process_jobs(original: Any) -> Any:
    def _process_jobs(self: Any) -> Any:
        return Job(original, None)(self)

    return _process_jobs


_pools = Hooks(
    {
        "concurrent.futures.thread": ("ThreadPoolExecutor", {"submit": _around_submit}),
        "concurrent.futures._base": ("Future", {"add_done_callback": _around_add_done_callback}),
        "multiprocessing.pool": (
            "ThreadPool",
            {
                "apply_async": _around_apply_async,
                "_map_async": _around_map_async,
                "imap": _around_imap,
                "imap_unordered": _around_imap,
            },
        ),
        "aiosqlite.core": ("Connection", {"_execute": _around_execute}),
        "apscheduler.schedulers.base": ("BaseScheduler", {"_process_jobs": _around_process_jobs}),
    }
)
