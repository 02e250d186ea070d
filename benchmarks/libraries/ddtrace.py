"""ddtrace with its native writer, sending to an agent (the sink); telemetry and remote configuration are off."""

from __future__ import annotations

import os
from typing import Any

from benchmarks import scenes
from benchmarks.libraries import http_sink
from benchmarks.measure import Case


def _tracer() -> Any:
    host, port = http_sink()
    os.environ.update(
        DD_TRACE_AGENT_URL=f"http://{host}:{port}",
        DD_INSTRUMENTATION_TELEMETRY_ENABLED="false",
        DD_REMOTE_CONFIGURATION_ENABLED="false",
        DD_TRACE_STARTUP_LOGS="false",
        DD_SERVICE="bench",
    )
    from ddtrace.trace import tracer

    return tracer


def _span_case(whole_process: bool) -> Case:
    tracer = _tracer()

    def spans(count: int) -> None:
        for _ in range(count // scenes.SPANS_A_TRACE):
            with tracer.trace("root"):
                for _ in range(scenes.SPANS_A_TRACE - 1):
                    with tracer.trace("db.query", span_type="db") as span:
                        span.set_tag("db.system", "postgresql")
                        span.set_tag("rows", "3")

    return Case(spans, settle=tracer.flush, whole_process=whole_process)


def span() -> Case:
    """A span, finished and handed to the writer."""
    return _span_case(whole_process=False)


def total() -> Case:
    """A span with everything that happens to it, on all threads, until the agent has answered."""
    return _span_case(whole_process=True)


def asgi() -> Case:
    """A request through the middleware."""
    tracer = _tracer()
    from ddtrace.contrib.asgi import TraceMiddleware

    requests = scenes.Requests(scenes.asgi_app, TraceMiddleware(scenes.asgi_app))
    return Case(requests.serve, requests.switch, tracer.flush)


def httpx() -> Case:
    """A call by a patched client, inside a trace."""
    tracer = _tracer()
    from ddtrace.contrib.internal.httpx.patch import patch, unpatch

    tracer.trace("root")
    client = scenes.httpx_client()

    def switch(on: bool) -> None:
        (patch if on else unpatch)()

    return Case(lambda count: scenes.call_httpx(client, count), switch, tracer.flush)


def requests() -> Case:
    """A call by a patched session, inside a trace."""
    tracer = _tracer()
    from ddtrace.contrib.internal.requests.patch import patch, unpatch

    tracer.trace("root")
    session = scenes.requests_session()

    def switch(on: bool) -> None:
        (patch if on else unpatch)()

    return Case(lambda count: scenes.call_requests(session, count), switch, tracer.flush)
