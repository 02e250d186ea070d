"""The signs by which a thread, or a task, that has inherited a trace shows that it serves others. Then it has none.

* It takes from a ``queue.Queue`` what another trace, or none, has put there. (Not from a ``LifoQueue``: those hold
  connections, which anybody takes.) A task of asyncio: from an ``asyncio.Queue``, after its request has ended.
* It waits in its own module, and another trace wakes it: ``Event.set``, ``Condition.notify``.
* Its own function waits out a time-out of ``Event.wait`` after its request has ended: it is a clock.

They count while no span is open that it has opened itself, and for the rest of its life. What was put, or who waits, is
never touched: beside each queue and event we remember whose trace was there, as long as it lives.
"""

from __future__ import annotations

import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

from clew._context import active, current
from clew.integrations._watched import Watched
from clew.integrations._workers import Inherited, function_of, has_ended

if TYPE_CHECKING:
    from types import FrameType


def install() -> None:
    """Watch for the signs."""
    for watched in _WATCHED:
        watched.install()


def uninstall() -> None:
    """Watch no more."""
    for watched in _WATCHED:
        watched.uninstall()


# Beside a queue: whose trace has put something in. Beside an event or a condition: whose has woken somebody last.

_MANY: Final = object()
_seen: dict[int, tuple[Any, Any]] = {}  # by id: a weak reference that takes the entry away, and a trace id or _MANY


def _remember(there: Any, trace_id: Any) -> None:
    key = id(there)
    known = _seen.get(key)
    if known is not None:
        _seen[key] = (known[0], trace_id)
        return
    try:
        _seen[key] = (weakref.ref(there, lambda _: _seen.pop(key, None)), trace_id)
    except TypeError:  # a subclass that cannot be referred to weakly: what comes from it is from nobody known
        pass


def _note_put(queue: Any) -> None:
    node = active()
    trace_id = None if node is None else node.trace.trace_id
    known = _seen.get(id(queue))
    if known is None:
        _remember(queue, trace_id)
    elif known[1] is not _MANY and known[1] != trace_id:
        _remember(queue, _MANY)


def _is_own(queue: Any, trace_id: str, connections: Any) -> bool:
    known = _seen.get(id(queue))
    return isinstance(queue, connections) or (known is not None and known[1] == trace_id)


# Queues.


def _around_put(original: Any) -> Any:
    def put(self: Any, item: Any, block: bool = True, timeout: float | None = None) -> None:
        _note_put(self)
        original(self, item, block, timeout)

    return put


def _around_get(original: Any) -> Any:
    def get(self: Any, block: bool = True, timeout: float | None = None) -> Any:
        item = original(self, block, timeout)
        node = active()
        if type(node) is Inherited and not _is_own(self, node.trace.trace_id, sys.modules["queue"].LifoQueue):
            current.set(None)
        return item

    return get


def _around_put_nowait(original: Any) -> Any:
    def put_nowait(self: Any, item: Any) -> None:
        _note_put(self)
        original(self, item)

    return put_nowait


def _around_async_get(original: Any) -> Any:
    async def get(self: Any) -> Any:
        item = await original(self)
        node = active()
        # A task copies what is active where it is made, so its own spans are told only from one that has ended.
        if node is None or not has_ended(node):
            return item
        if not _is_own(self, node.trace.trace_id, sys.modules["asyncio.queues"].LifoQueue):
            current.set(None)
        return item

    return get


# Events and conditions.


def _around_set(original: Any) -> Any:
    def set(self: threading.Event) -> None:
        node = active()
        if node is not None:
            _remember(self, node.trace.trace_id)
        original(self)

    return set


def _around_notify(original: Any) -> Any:
    def notify(self: Any, n: int = 1) -> None:
        if self._waiters:
            node = active()
            if node is not None:
                _remember(self, node.trace.trace_id)
        original(self, n)

    return notify


def _around_event_wait(original: Any) -> Any:
    def wait(self: threading.Event, timeout: float | None = None) -> bool:
        signaled: bool = original(self, timeout)
        node = active()
        if type(node) is Inherited:
            frame = sys._getframe(1)
            if _is_woken_by_another(self, node, frame) if signaled else node.is_over() and _runs_in(frame):
                current.set(None)
        return signaled

    return wait


def _around_condition_wait(original: Any) -> Any:
    def wait(self: threading.Condition, timeout: float | None = None) -> bool:
        signaled: bool = original(self, timeout)
        node = active()
        if type(node) is Inherited and signaled and _is_woken_by_another(self, node, sys._getframe(1)):
            current.set(None)
        return signaled

    return wait


def _is_woken_by_another(waited_for: Any, node: Inherited, frame: FrameType) -> bool:
    """Tell whether another trace has woken the thread's own code. A library may wait for what anybody gives back."""
    known = _seen.get(id(waited_for))
    if known is None or known[1] == node.trace.trace_id:
        return False
    return frame.f_globals.get("__name__") == getattr(function_of(threading.current_thread()), "__module__", None)


def _runs_in(frame: FrameType) -> bool:
    """Tell whether a frame is that of the thread's own function, where its loop would be, not of one that it calls."""
    return frame.f_code is getattr(function_of(threading.current_thread()), "__code__", None)


_QUEUE: Final = {"put": _around_put, "get": _around_get}
_ASYNC_QUEUE: Final = {"put_nowait": _around_put_nowait, "get": _around_async_get}
_EVENT: Final = {"wait": _around_event_wait, "set": _around_set}
_CONDITION: Final = {"wait": _around_condition_wait, "notify": _around_notify}
_WATCHED: Final = (
    Watched("threading", ("Event",), _EVENT),
    Watched("threading", ("Condition",), _CONDITION),
    Watched("queue", ("Queue", "PriorityQueue", "LifoQueue"), _QUEUE),
    Watched("asyncio.queues", ("Queue",), _ASYNC_QUEUE),
    Watched("gevent.event", ("Event",), _EVENT),
    Watched("gevent.queue", ("Queue", "PriorityQueue", "LifoQueue", "JoinableQueue", "SimpleQueue"), _QUEUE),
)
