"""asgi-correlation-id: no spans, an id for each request and on each log line. What the least of it costs."""

from __future__ import annotations

from benchmarks import scenes
from benchmarks.measure import Case


def asgi() -> Case:
    """A request through the middleware."""
    from asgi_correlation_id import CorrelationIdMiddleware

    requests = scenes.Requests(scenes.asgi_app, CorrelationIdMiddleware(scenes.asgi_app))
    return Case(requests.serve, requests.switch)


def log() -> Case:
    """A record stamped by the filter of a handler, inside a request."""
    from asgi_correlation_id import CorrelationIdFilter, correlation_id

    correlation_id.set(scenes.TRACE_ID)
    logger, handler = scenes.logger_with_handler()
    stamp = CorrelationIdFilter()

    def switch(on: bool) -> None:
        (handler.addFilter if on else handler.removeFilter)(stamp)

    return Case(lambda count: scenes.log_lines(logger, count), switch)
