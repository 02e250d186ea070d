"""OpenTelemetry: SDK, batch processor, OTLP over HTTP (its default), the contrib instrumentations."""

from __future__ import annotations

from typing import Any

from benchmarks import scenes
from benchmarks.libraries import http_sink
from benchmarks.measure import Case


def _provider() -> Any:
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    host, port = http_sink()
    exporter = OTLPSpanExporter(endpoint=f"http://{host}:{port}/v1/traces")
    provider = TracerProvider(resource=Resource.create({"service.name": "bench"}))
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=1_000_000))
    trace.set_tracer_provider(provider)
    return provider


def _span_case(whole_process: bool) -> Case:
    from opentelemetry.trace import SpanKind

    provider = _provider()
    tracer = provider.get_tracer("bench")

    def spans(count: int) -> None:
        for _ in range(count // scenes.SPANS_A_TRACE):
            with tracer.start_as_current_span("root"):
                for _ in range(scenes.SPANS_A_TRACE - 1):
                    with tracer.start_as_current_span("db.query", kind=SpanKind.CLIENT, attributes=scenes.TAGS):
                        pass

    return Case(spans, settle=provider.force_flush, whole_process=whole_process)


def span() -> Case:
    """A span, finished and queued."""
    return _span_case(whole_process=False)


def total() -> Case:
    """A span with everything that happens to it, on all threads, until the collector has answered."""
    return _span_case(whole_process=True)


def asgi() -> Case:
    """A request through the middleware."""
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    provider = _provider()
    requests = scenes.Requests(scenes.asgi_app, OpenTelemetryMiddleware(scenes.asgi_app))
    return Case(requests.serve, requests.switch, provider.force_flush)


def flask() -> Case:
    """A request through an instrumented application."""
    from opentelemetry.instrumentation.flask import FlaskInstrumentor

    provider = _provider()
    bare, traced = scenes.flask_app(), scenes.flask_app()
    FlaskInstrumentor().instrument_app(traced)
    requests = scenes.WsgiRequests(bare, traced)
    return Case(requests.serve, requests.switch, provider.force_flush)


def httpx() -> Case:
    """A call by an instrumented client, inside a trace."""
    from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

    provider = _provider()
    _open_root(provider)
    clients = {False: scenes.httpx_client(), True: scenes.httpx_client()}
    HTTPXClientInstrumentor().instrument_client(clients[True])
    chosen = [clients[True]]

    def switch(on: bool) -> None:
        chosen[0] = clients[on]

    return Case(lambda count: scenes.call_httpx(chosen[0], count), switch, provider.force_flush)


def requests() -> Case:
    """A call by an instrumented session, inside a trace."""
    from opentelemetry.instrumentation.requests import RequestsInstrumentor

    provider = _provider()
    _open_root(provider)
    session = scenes.requests_session()
    instrumentor = RequestsInstrumentor()

    def switch(on: bool) -> None:
        if on != instrumentor.is_instrumented_by_opentelemetry:
            (instrumentor.instrument if on else instrumentor.uninstrument)()

    return Case(lambda count: scenes.call_requests(session, count), switch, provider.force_flush)


def sql() -> Case:
    """A statement by an instrumented connection, inside a trace."""
    import sqlite3

    from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor

    provider = _provider()
    bare = sqlite3.connect(":memory:")
    SQLite3Instrumentor().instrument()
    traced = sqlite3.connect(":memory:")
    _open_root(provider)
    statements = scenes.Statements(bare, traced)
    return Case(statements.ask, statements.switch, provider.force_flush)


def _open_root(provider: Any) -> None:
    from opentelemetry import context, trace

    context.attach(trace.set_span_in_context(provider.get_tracer("bench").start_span("root")))
