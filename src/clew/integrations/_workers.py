"""Which threads are workers: made by one request, and then there for everybody. They belong to no trace.

A thread begins in the trace of whoever starts it, which is right for a piece of work that runs on its own, also when it
outlives the request. It is wrong for a worker, and a wrong trace is worse than none. Python does not say which is
which.

A thread that runs code of a library that keeps threads (`_SERVERS`, `_KEEPERS`) never begins in a trace, nor does a
``Timer`` that a ``Timer`` starts after its request has ended: that is a clock. Any other thread begins in one, and
loses it by the first of the signs in `_signs`, at the latest a minute after the end of its request. What it does in a
span of its own until then stays in the trace.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from clew import _context
from clew._context import ENDED_ELSEWHERE, Node, RemoteSpan, active
from clew._span import Span

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


_GRACE_NS: Final = 60 * 1_000_000_000  # mail is sent by then; what serves all for longer was in the wrong trace


class Inherited(RemoteSpan):
    """The position at which a thread began, and the span that was the starter's outermost: the request.

    Whoever finds it active looks at ``token`` first, and passes over it when its time is up.
    """

    __slots__ = ("_request",)

    def __init__(self, node: Node) -> None:
        self.trace = node.trace
        self.span_id = node.span_id
        self.parent_id = node.parent_id
        self.previous = None
        self._request = _outermost(node)

    @property
    def token(self) -> object:  # type: ignore[override]
        """The mark of a position that counts no more, or None."""
        request = self._request
        if not isinstance(request, Span) or request.duration_ns < 0:
            return None
        return ENDED_ELSEWHERE if _context.ticks_ns() - request.start_ns - request.duration_ns > _GRACE_NS else None

    def is_over(self) -> bool:
        """Tell whether the request has ended; of one whose spans are elsewhere that is not known."""
        return has_ended(self._request)


def _outermost(node: Node) -> Node | None:
    while isinstance(node, Span) and node.previous is not None:
        node = node.previous
    return node._request if isinstance(node, Inherited) else node


def has_ended(node: Node | None) -> bool:
    """Tell whether a position is a span of this process that has ended."""
    return isinstance(node, Span) and node.duration_ns >= 0


def position_for(thread: threading.Thread, starter: Any) -> Inherited | None:
    """Return where in the active trace a thread begins; None for a worker. ``starter``: the module that starts it."""
    node = active()
    if node is None or _is_kept(function_of(thread), starter):
        return None
    if type(node) is not Inherited:
        return Inherited(node)
    return None if _is_clock(thread, node) else node


def function_of(thread: threading.Thread) -> Any:
    """Return what a thread runs: its class's ``run``, or what the class of Python's own was given to call."""
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
