"""Which threads are workers: made by one request, and then there for everybody. They belong to no trace.

A thread begins in the trace of whoever starts it, which is right for a piece of work that runs on its own, also when it
outlives the request. It is wrong for a worker, and a wrong trace is worse than none. Python does not say which is
which, so there are four signs:

* It runs code of a library that keeps threads (`_SERVERS`, `_KEEPERS`): it never begins in a trace.
* It takes from a ``queue.Queue`` what another trace, or none, has put there. (Not from a ``LifoQueue``: those hold
  connections, which anybody takes.)
* Its function itself waits out a time-out of ``Event.wait`` after the request has ended: it is a clock.
* It is a ``Timer`` that a ``Timer`` started after the request had ended: a clock, too.

The last three count for the thread itself, outside of all spans that it has opened, and then for the rest of its life.
"""

from __future__ import annotations

import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

from clew._context import Node, RemoteSpan, current
from clew._patch import patch, unpatch
from clew._span import Span
from clew.integrations import _imports

if TYPE_CHECKING:
    from types import FrameType, ModuleType

# Modules of Python's own whose functions serve everybody, whoever starts a thread with them.
_SERVERS: Final = frozenset(
    {
        "asyncio.base_events",  # run_forever(): what is handed in brings its own context
        "concurrent.futures.process",
        "concurrent.futures.thread",
        "logging.handlers",
        "multiprocessing.managers",
        "multiprocessing.pool",
        "multiprocessing.queues",
        "socketserver",
    }
)
# Packages that keep threads and start them themselves. (A program may start one to call a function of theirs.)
_KEEPERS: Final = frozenset(
    {
        *(
            "aiosqlite",
            "analytics",
            "anyio",
            "apscheduler",
            "cassandra",
            "celery",
            "clew",
            "confluent_kafka",
            "datadog",
        ),
        *("ddtrace", "dramatiq", "elasticapm", "google", "grpc", "huey", "influxdb_client", "joblib", "kafka", "kazoo"),
        *("kombu", "ldclient", "loky", "mixpanel", "nats", "neo4j", "newrelic", "opentelemetry", "paho", "paramiko"),
        *("pika", "posthog", "prometheus_client", "psycopg_pool", "pulsar", "pymongo", "redis", "rq", "segment"),
        *("sentry_sdk", "statsd", "statsig", "twisted", "valkey", "watchdog", "websocket", "websockets", "zmq"),
    }
)


class Inherited(RemoteSpan):
    """The position at which a thread began, and the span that was the starter's outermost: the request."""

    __slots__ = ("_request",)

    def __init__(self, node: Node) -> None:
        super().__init__(node.trace, node.span_id, node.parent_id)
        self._request = _outermost(node)

    def is_over(self) -> bool:
        """Tell whether the request has ended; of one whose spans are elsewhere that is not known."""
        request = self._request
        return isinstance(request, Span) and request.duration_ns >= 0


def _outermost(node: Node) -> Node | None:
    while isinstance(node, Span) and node.previous is not None:
        node = node.previous
    return node._request if isinstance(node, Inherited) else node


def position_for(thread: threading.Thread, starter: Any) -> Inherited | None:
    """Return where in the active trace a thread begins; None for a worker. ``starter``: the module that starts it."""
    node = current.get()
    if node is None or _is_kept(_function_of(thread), starter):
        return None
    if type(node) is not Inherited:
        return Inherited(node)
    return None if _is_clock(thread, node) else node


def install() -> None:
    """Watch for the signs."""
    _imports.when_imported("queue", _follow_queue)
    patch(threading.Event, "wait", _around_wait)


def uninstall() -> None:
    """Watch no more."""
    _imports.forget("queue", _follow_queue)
    unpatch(threading.Event, "wait")
    queue = sys.modules.get("queue")
    if queue is not None:
        unpatch(queue.Queue, "put")
        unpatch(queue.Queue, "get")


def _function_of(thread: threading.Thread) -> Any:
    """Return what the thread will run: its class's ``run``, or what the class of Python's own was given to call."""
    run = type(thread).run
    if run is _plain_run:
        function = getattr(thread, "_target", None)
    elif run is _timer_run:
        function = getattr(thread, "function", None)
    else:
        function = run
    return getattr(function, "func", function)  # of a functools.partial


_plain_run: Final = threading.Thread.run
_timer_run: Final = threading.Timer.run


def _is_kept(function: Any, starter: Any) -> bool:
    module = getattr(function, "__module__", None)
    return module in _SERVERS or (_package(module) in _KEEPERS and _package(starter) in _KEEPERS)


def _package(module: Any) -> str:
    return module.partition(".")[0] if isinstance(module, str) else ""


def _is_clock(thread: threading.Thread, node: Inherited) -> bool:
    timers = isinstance(thread, threading.Timer) and isinstance(threading.current_thread(), threading.Timer)
    return timers and node.is_over()


# Queues: who has put something in, by the queue's id, as long as it lives.

_MANY: Final = object()
_putters: dict[int, tuple[Any, Any]] = {}


def _follow_queue(module: ModuleType) -> None:
    patch(module.Queue, "put", _around_put)
    patch(module.Queue, "get", _around_get)


def _around_put(original: Any) -> Any:
    def put(self: Any, item: Any, block: bool = True, timeout: float | None = None) -> None:
        node = current.get()
        trace_id = None if node is None else node.trace.trace_id
        known = _putters.get(id(self))
        if known is None:
            _remember(self, trace_id)
        elif known[1] is not _MANY and known[1] != trace_id:
            _putters[id(self)] = (known[0], _MANY)
        original(self, item, block, timeout)

    return put


def _remember(queue: Any, trace_id: str | None) -> None:
    key = id(queue)
    try:
        _putters[key] = (weakref.ref(queue, lambda _: _putters.pop(key, None)), trace_id)
    except TypeError:  # a subclass that cannot be referred to weakly: what comes out of it is from nobody known
        pass


def _around_get(original: Any) -> Any:
    def get(self: Any, block: bool = True, timeout: float | None = None) -> Any:
        item = original(self, block, timeout)
        node = current.get()
        if type(node) is Inherited and not _is_own(self, node):
            current.set(None)
        return item

    return get


def _is_own(queue: Any, node: Inherited) -> bool:
    if isinstance(queue, sys.modules["queue"].LifoQueue):
        return True
    known = _putters.get(id(queue))
    return known is not None and known[1] == node.trace.trace_id


# Clocks.


def _around_wait(original: Any) -> Any:
    def wait(self: threading.Event, timeout: float | None = None) -> bool:
        signaled: bool = original(self, timeout)
        if not signaled and timeout is not None:
            node = current.get()
            if type(node) is Inherited and node.is_over() and _runs_in(sys._getframe(1)):
                current.set(None)
        return signaled

    return wait


def _runs_in(frame: FrameType) -> bool:
    """Tell whether a frame is that of the thread's own function, where its loop would be, not of one that it calls."""
    return frame.f_code is getattr(_function_of(threading.current_thread()), "__code__", None)
