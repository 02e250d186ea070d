"""py_zipkin with V2 JSON. It encodes and sends in the application's own thread when a trace ends."""

from __future__ import annotations

from typing import Any

from benchmarks import scenes
from benchmarks.libraries import http_sink
from benchmarks.measure import Case


def _span_case(transport: Any, whole_process: bool) -> Case:
    from py_zipkin import Encoding, Kind
    from py_zipkin.zipkin import zipkin_span

    root = {
        "service_name": "bench",
        "span_name": "root",
        "transport_handler": transport,
        "sample_rate": 100.0,
        "encoding": Encoding.V2_JSON,
    }

    def spans(count: int) -> None:
        for _ in range(count // scenes.SPANS_A_TRACE):
            with zipkin_span(**root):
                for _ in range(scenes.SPANS_A_TRACE - 1):
                    with zipkin_span("bench", "db.query", kind=Kind.CLIENT, binary_annotations=dict(scenes.TAGS)):
                        pass

    return Case(spans, whole_process=whole_process)


def span() -> Case:
    """A span, finished, encoded and given to a transport that does nothing."""
    from py_zipkin.transport import BaseTransportHandler

    class Forget(BaseTransportHandler):  # type: ignore[misc]
        def get_max_payload_bytes(self) -> None:
            return None

        def send(self, payload: Any) -> None:
            pass

    return _span_case(Forget(), whole_process=False)


def total() -> Case:
    """A span with everything that happens to it, until the collector has answered."""
    from py_zipkin.transport import SimpleHTTPTransport

    return _span_case(SimpleHTTPTransport(*http_sink()), whole_process=True)
