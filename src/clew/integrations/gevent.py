"""gevent: greenlets and its pool of threads. Makes no span.

Hooked: the start of a ``Greenlet`` of any class, by gevent's own callback for it (and so ``gevent.spawn``,
``spawn_later``, ``gevent.pool``, a server's handlers): it begins at its starter's position, and in no other variable of
its starter's. ``gevent.threadpool.ThreadPool.spawn`` (and so ``apply``, ``map``, its executor): a job runs in the trace
of whoever submitted it. A greenlet whose program has given it a context of its own (``gr_context``) keeps that.

With ``gevent.monkey``, threads are greenlets and follow by the rules of `threads`, in whatever order the two are turned
on; without `threads` they begin in no trace. A greenlet that a request starts and that serves all is nobody's from
the first job of another that it takes from one of gevent's queues, or from a minute after that request has ended.

Tested with gevent 24.11 to 26.9.
"""

from __future__ import annotations

import threading
from contextvars import Context
from typing import Any

from gevent.greenlet import Greenlet

from clew._context import active, current
from clew.integrations._hooks import Hooks
from clew.integrations._jobs import carry
from clew.integrations._workers import Inherited


def install() -> None:
    """Follow the context into greenlets that are started from now on."""
    Greenlet.add_spawn_callback(_begin_in_trace)  # a set: twice in is once
    _pools.install()


def uninstall() -> None:
    """Undo ``install``."""
    Greenlet.remove_spawn_callback(_begin_in_trace)
    _pools.uninstall()


def _begin_in_trace(greenlet: Any) -> None:
    node = active()
    if node is not None and greenlet.gr_context is None and not _is_thread(greenlet):
        context = Context()
        context.run(current.set, node if type(node) is Inherited else Inherited(node))
        greenlet.gr_context = context


def _is_thread(greenlet: Any) -> bool:
    """Tell a thread of a patched program: whether it begins in the trace, `threads` says."""
    return isinstance(getattr(greenlet._run, "__self__", None), threading.Thread)


def _around_spawn(original: Any) -> Any:
    def spawn(self: Any, func: Any, *args: Any, **kwargs: Any) -> Any:
        return original(self, carry(func), *args, **kwargs)

    return spawn


_pools = Hooks({"gevent.threadpool": ("ThreadPool", {"spawn": _around_spawn})})
