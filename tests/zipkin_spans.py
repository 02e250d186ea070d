"""Spans for tests of reading: as short text, as values of the model, and into the engine."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

from clew.collector.ingest.payload import check
from clew.collector.trace import Annotation, Endpoint, Span, normalize_span_id, normalize_trace_id

if TYPE_CHECKING:
    from clew.collector.store.clickhouse import ClickHouseStore

NOON = 1_700_000_000_000  # a fixed moment, milliseconds since the epoch: all spans of these tests lie around it
_tokens = itertools.count()


def make(
    id: str,
    parent: str | None = None,
    kind: str | None = None,
    local: str | None = None,
    remote: str | None = None,
    *,
    trace: str = "a",
    ip: str | None = None,
    error: bool = False,
    shared: bool = False,
    timestamp: int = 0,
    duration: int = 0,
    name: str | None = None,
    tags: dict[str, str] | None = None,
    notes: tuple[tuple[int, str], ...] = (),
) -> Span:
    """Return a span of the model; ids may be short. Times in microseconds."""
    return Span(
        trace_id=normalize_trace_id(trace),
        parent_id=normalize_span_id(parent) if parent else None,
        id=normalize_span_id(id),
        kind=kind,
        name=name,
        timestamp=timestamp,
        duration=duration,
        local_endpoint=Endpoint(local, ip) if local or ip else None,
        remote_endpoint=Endpoint(remote) if remote else None,
        annotations=tuple(Annotation(*note) for note in notes),
        tags={**({"error": ""} if error else {}), **(tags or {})},
        shared=shared,
    )


def insert(store: ClickHouseStore, *rows: dict[str, Any]) -> None:
    """Store span JSON as if it had just arrived."""
    checked = check("spans", json.dumps(rows).encode())
    store.insert("spans", b"[%b]" % checked.rows, f"test-{next(_tokens)}")


def insert_logs(store: ClickHouseStore, *rows: dict[str, Any]) -> None:
    """Store log records as if they had just arrived."""
    checked = check("logs", json.dumps({"logs": rows}).encode())
    store.insert("logs", b"[%b]" % checked.rows, f"test-{next(_tokens)}")
