"""The signs by which a thread, a greenlet or a task that has inherited a trace shows that it serves others.

Then it has none. The signs are:

* It takes from a queue what another trace, or none, has put there: ``queue.Queue`` and its kin, multiprocessing's,
  gevent's. A ``LifoQueue`` mostly holds connections, which anybody takes: from that only in its own module, and only
  what another trace has put there. What other processes have put in is nobody's once the request has ended.
* It waits in its own module, and another trace wakes it: ``Event.set``, ``Condition.notify``, ``Semaphore.release``. A
  ``with semaphore`` is no sign: that is how a limit is kept.
* Its own function waits out a time-out of an event or a condition after its request has ended: it is a clock.
* A task of asyncio shows the same, except the last, by asyncio's own queues, events, conditions and semaphores and by
  anyio's memory streams, but only after its request has ended.

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

    from clew._context import Node


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


def _is_own(there: Any, trace_id: str) -> bool:
    known = _seen.get(id(there))
    return known is not None and known[1] == trace_id


def _is_another_s(there: Any, trace_id: str) -> bool:
    """Tell whether another trace was there, not just none."""
    known = _seen.get(id(there))
    return known is not None and known[1] is not None and known[1] != trace_id


def _holds_connections(queue: Any) -> bool:
    return any(base.__name__ == "LifoQueue" for base in type(queue).__mro__)  # of whatever library


# Queues of threads.


def _around_put(original: Any) -> Any:
    def put(self: Any, item: Any, block: bool = True, timeout: float | None = None) -> None:
        _note_put(self)
        original(self, item, block, timeout)

    return put


def _around_get(original: Any) -> Any:
    def get(self: Any, block: bool = True, timeout: float | None = None) -> Any:
        item = original(self, block, timeout)
        node = active()
        if type(node) is Inherited and _shows_others(self, node, sys._getframe(1)):
            current.set(None)
        return item

    return get


def _shows_others(queue: Any, node: Inherited, frame: FrameType) -> bool:
    if _is_own(queue, node.trace.trace_id):
        return False
    if not _holds_connections(queue):
        return True
    if frame.f_code.co_name == "get_nowait" and frame.f_back is not None:  # which calls get()
        frame = frame.f_back
    return _is_another_s(queue, node.trace.trace_id) and _is_module_of(frame, _own_function())


def _around_put_of_processes(original: Any) -> Any:
    def put(self: Any, obj: Any, *args: Any, **kwargs: Any) -> None:
        _note_put(self)
        original(self, obj, *args, **kwargs)

    return put


def _around_get_of_processes(original: Any) -> Any:
    def get(self: Any, *args: Any, **kwargs: Any) -> Any:
        item = original(self, *args, **kwargs)
        node = active()
        if type(node) is Inherited and not _is_own(self, node.trace.trace_id) and (id(self) in _seen or node.is_over()):
            current.set(None)
        return item

    return get


# Events, conditions and semaphores of threads.


def _around_set(original: Any) -> Any:
    def set(self: Any) -> None:
        _note_waking(self)
        original(self)

    return set


def _around_notify(original: Any) -> Any:
    def notify(self: Any, n: int = 1) -> None:
        if self._waiters:
            _note_waking(self)
        original(self, n)

    return notify


def _around_release(original: Any) -> Any:
    def release(self: Any, n: int = 1) -> None:
        _note_waking(self)
        if n == 1:
            original(self)  # asyncio's takes no number
        else:
            original(self, n)

    return release


def _note_waking(there: Any) -> None:
    node = active()
    if node is not None:
        _remember(there, node.trace.trace_id)


def _around_wait(original: Any) -> Any:
    def wait(self: Any, timeout: float | None = None) -> bool:
        signaled: bool = original(self, timeout)
        node = active()
        if type(node) is Inherited and _shows_worker(self, node, signaled, sys._getframe(1)):
            current.set(None)
        return signaled

    return wait


def _around_acquire(original: Any) -> Any:
    def acquire(self: Any, blocking: bool = True, timeout: float | None = None) -> bool:
        acquired: bool = original(self, blocking, timeout)
        node = active()
        if type(node) is Inherited and acquired and _shows_worker(self, node, True, sys._getframe(1)):
            current.set(None)
        return acquired

    return acquire


def _shows_worker(waited_for: Any, node: Inherited, signaled: bool, frame: FrameType) -> bool:
    """Tell whether another trace has woken the thread's own code, or the clock. A library may wait for anybody."""
    if frame.f_code is _WAIT_FOR and frame.f_back is not None:
        frame = frame.f_back
    if signaled:
        return _is_another_s(waited_for, node.trace.trace_id) and _is_module_of(frame, _own_function())
    return node.is_over() and frame.f_code is getattr(_own_function(), "__code__", None)


_WAIT_FOR: Final = threading.Condition.wait_for.__code__


def _own_function() -> Any:
    """Return what the running thread or greenlet was made to run."""
    getcurrent = getattr(sys.modules.get("gevent"), "getcurrent", None)
    run = getattr(getcurrent(), "_run", None) if getcurrent is not None else None
    if run is None or isinstance(getattr(run, "__self__", None), threading.Thread):
        return function_of(threading.current_thread())
    return getattr(run, "func", run)


def _is_module_of(frame: FrameType, function: Any) -> bool:
    return frame.f_globals.get("__name__") == getattr(function, "__module__", None)


# Tasks. One copies what is active where it is made, so its own spans are told only from one that has ended.


def _around_put_nowait(original: Any) -> Any:
    def put_nowait(self: Any, item: Any) -> None:
        _note_put(self)
        original(self, item)

    return put_nowait


def _around_get_nowait(original: Any) -> Any:
    def get_nowait(self: Any) -> Any:
        item = original(self)
        node = active()
        if node is not None and has_ended(node) and _shows_others_to_task(self, node, sys._getframe(1)):
            current.set(None)
        return item

    return get_nowait


def _shows_others_to_task(queue: Any, node: Node, frame: FrameType) -> bool:
    if _holds_connections(queue):
        return _is_woken_task(queue, node, frame)
    return not _is_own(queue, node.trace.trace_id)


def _around_async_wait(original: Any) -> Any:
    async def wait(self: Any) -> Any:
        result = await original(self)
        node = active()
        if node is not None and has_ended(node) and _is_woken_task(self, node, sys._getframe(1)):
            current.set(None)
        return result

    return wait


def _is_woken_task(waited_for: Any, node: Node, frame: FrameType) -> bool:
    """Tell whether a task's own module has got what another trace has given."""
    if not _is_another_s(waited_for, node.trace.trace_id):
        return False
    asyncio = sys.modules["asyncio"]
    if frame.f_code in (asyncio.Queue.get.__code__, asyncio.Condition.wait_for.__code__) and frame.f_back is not None:
        frame = frame.f_back
    task = asyncio.current_task()
    first = getattr(task.get_coro() if task is not None else None, "cr_frame", None)
    return first is not None and frame.f_globals is first.f_globals


# anyio's memory streams: both ends have one state.


def _around_send_nowait(original: Any) -> Any:
    def send_nowait(self: Any, item: Any) -> None:
        _note_put(self._state)
        original(self, item)

    return send_nowait


def _around_receive_nowait(original: Any) -> Any:
    def receive_nowait(self: Any) -> Any:
        item = original(self)
        _leave_for(self._state)
        return item

    return receive_nowait


def _around_receive(original: Any) -> Any:
    async def receive(self: Any) -> Any:
        item = await original(self)
        _leave_for(self._state)
        return item

    return receive


def _leave_for(state: Any) -> None:
    node = active()
    if node is not None and has_ended(node) and not _is_own(state, node.trace.trace_id):
        current.set(None)


_QUEUE: Final = {"put": _around_put, "get": _around_get}
_PROCESSES_QUEUE: Final = {"put": _around_put_of_processes, "get": _around_get_of_processes}
_EVENT: Final = {"wait": _around_wait, "set": _around_set}
_ASYNC: Final = "asyncio.locks"
_STREAMS: Final = "anyio.streams.memory"
_WATCHED: Final = (
    Watched("threading", ("Event",), _EVENT),
    Watched("threading", ("Condition",), {"wait": _around_wait, "notify": _around_notify}),
    Watched("threading", ("Semaphore",), {"acquire": _around_acquire, "release": _around_release}),
    Watched("threading", ("BoundedSemaphore",), {"release": _around_release}),
    Watched("queue", ("Queue", "PriorityQueue", "LifoQueue"), _QUEUE),
    Watched("multiprocessing.queues", ("Queue",), _PROCESSES_QUEUE),
    Watched("multiprocessing.queues", ("JoinableQueue",), {"put": _around_put_of_processes}),
    Watched("multiprocessing.queues", ("SimpleQueue",), _PROCESSES_QUEUE),
    Watched("gevent.event", ("Event",), _EVENT),
    Watched("gevent.queue", ("Queue", "PriorityQueue", "LifoQueue", "JoinableQueue", "SimpleQueue"), _QUEUE),
    Watched("asyncio.queues", ("Queue",), {"put_nowait": _around_put_nowait, "get_nowait": _around_get_nowait}),
    Watched(_ASYNC, ("Event",), {"wait": _around_async_wait, "set": _around_set}),
    Watched(_ASYNC, ("Condition",), {"wait": _around_async_wait, "notify": _around_notify}),
    Watched(_ASYNC, ("Semaphore",), {"acquire": _around_async_wait, "release": _around_release}),
    Watched(_STREAMS, ("MemoryObjectSendStream",), {"send_nowait": _around_send_nowait}),
    Watched(
        _STREAMS,
        ("MemoryObjectReceiveStream",),
        {"receive_nowait": _around_receive_nowait, "receive": _around_receive},
    ),
)
