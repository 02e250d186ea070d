"""Process pools: a job runs in the trace of whoever submitted it, whichever process runs it. Makes no span.

Hooked: ``ProcessPoolExecutor.submit`` (and so ``map``, ``loop.run_in_executor``), which sends the ids along with the
job. Without that a worker that was forked inside a request would run everybody's jobs in that request's trace.

Spans of a worker are reported where the worker's process is configured: by the fork itself, or, when workers are
spawned, by ``clew.configure()`` in the main module or ``clew run``.

Tested with CPython 3.10 to 3.13.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from typing import Any

from clew._context import TraceContext, current, get_trace_context
from clew._patch import patch, unpatch
from clew._tracer import set_trace_context


def install() -> None:
    """Send the context along to process pools, also to those that exist already."""
    patch(ProcessPoolExecutor, "submit", _around_submit)


def uninstall() -> None:
    """Undo ``install``."""
    unpatch(ProcessPoolExecutor, "submit")


class _Job:
    """A callable that travels with its trace's ids, pickled; without a trace it runs in none."""

    def __init__(self, function: Any, context: TraceContext | None) -> None:
        self._function = function
        self._context = context

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        previous = current.get()
        current.set(None)
        if self._context is not None:
            set_trace_context(self._context)
        try:
            return self._function(*args, **kwargs)
        finally:
            current.set(previous)


def _around_submit(original: Any) -> Any:
    def submit(self: ProcessPoolExecutor, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        return original(self, _Job(fn, get_trace_context()), *args, **kwargs)

    return submit
