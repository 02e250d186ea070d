"""Process pools: a job runs in the trace of whoever submitted it, whichever process runs it. Makes no span.

Hooked: ``ProcessPoolExecutor.submit`` (and so ``map``, ``loop.run_in_executor``), ``multiprocessing.Pool`` (``apply``,
``map``, ``starmap``, ``imap`` and their kin) and joblib's own executor, which send the ids along with the job; and
``BaseProcess._bootstrap``, the beginning of a child: a pool's worker that is forked inside a request begins outside of
its trace. A ``Process`` of the program's own that is forked inside a request stays in its trace.

Spans of a worker are reported where the worker's process is configured: by the fork itself, or, when workers are
spawned, by ``clew.configure()`` in the main module or ``clew run``.

Tested with CPython 3.10 to 3.13, joblib 1.5.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from clew._context import TraceContext, current, get_trace_context
from clew._tracer import set_trace_context
from clew.integrations._hooks import Hooks
from clew.integrations._jobs import carry_callback, carry_steps

_WORKERS: Final = frozenset({"concurrent.futures.process", "multiprocessing.pool", "multiprocessing.managers"})


def install() -> None:
    """Send the context along to process pools, also to those that exist already."""
    _pools.install()


def uninstall() -> None:
    """Undo ``install``."""
    _pools.uninstall()


class _Job:
    """A callable that travels with its trace's ids, pickled; without a trace it runs in none."""

    def __init__(self, function: Any, context: TraceContext | None) -> None:
        self._function = function
        self._context = context

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        previous = current.get()
        current.set(None)
        if self._context is not None:
            set_trace_context(self._context)
        try:
            return self._function(*args, **kwargs)
        finally:
            current.set(previous)


def _around_submit(original: Any) -> Any:
    def submit(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        return original(self, _Job(fn, get_trace_context()), *args, **kwargs)

    return submit


def _around_bootstrap(original: Any) -> Any:
    def _bootstrap(self: Any, parent_sentinel: Any = None) -> Any:
        if getattr(getattr(self, "_target", None), "__module__", None) in _WORKERS:
            current.set(None)  # the fork has copied what was active
        return original(self, parent_sentinel)

    return _bootstrap


# multiprocessing.Pool. Its subclass ThreadPool, whose jobs stay here, is hooked with the threads.


def _around_apply_async(original: Any) -> Any:
    def apply_async(
        self: Any, func: Any, args: Any = (), kwds: Any = None, callback: Any = None, error_callback: Any = None
    ) -> Any:
        kwds = {} if kwds is None else kwds
        if _is_of_threads(self):
            return original(self, func, args, kwds, callback, error_callback)
        func = _Job(func, get_trace_context())
        return original(self, func, args, kwds, carry_callback(callback), carry_callback(error_callback))

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
        if _is_of_threads(self):
            return original(self, func, iterable, mapper, chunksize, callback, error_callback)
        func = _Job(func, get_trace_context())
        callbacks = (carry_callback(callback), carry_callback(error_callback))
        return original(self, func, iterable, mapper, chunksize, *callbacks)

    return _map_async


def _around_imap(original: Any) -> Any:
    def imap(self: Any, func: Any, iterable: Any, chunksize: int = 1) -> Any:
        if _is_of_threads(self):
            return original(self, func, iterable, chunksize)
        return original(self, _Job(func, get_trace_context()), carry_steps(iterable), chunksize)

    return imap


def _is_of_threads(pool: Any) -> bool:
    return isinstance(pool, sys.modules["multiprocessing.pool"].ThreadPool)


_pools = Hooks(
    {
        "concurrent.futures.process": ("ProcessPoolExecutor", {"submit": _around_submit}),
        "joblib.externals.loky.process_executor": ("ProcessPoolExecutor", {"submit": _around_submit}),
        "loky.process_executor": ("ProcessPoolExecutor", {"submit": _around_submit}),
        "multiprocessing.pool": (
            "Pool",
            {
                "apply_async": _around_apply_async,
                "_map_async": _around_map_async,
                "imap": _around_imap,
                "imap_unordered": _around_imap,
            },
        ),
        "multiprocessing.process": ("BaseProcess", {"_bootstrap": _around_bootstrap}),
    }
)
