"""Zipkin v2 spans and log records, as the collector answers them -> rows and lines ready to be drawn.

Who is whose child, which clock is wrong: that is `clew.collector.trace`, the same code as behind the API, so that
terminal and page never differ. Pure; no function recurses, because a chain of a thousand calls is legal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from clew.cli._text import target
from clew.collector.trace import Span
from clew.collector.trace.findings import Finding, find
from clew.collector.trace.timeline import critical_path, lay_out
from clew.wire import ERROR_STACK_TAG, TRACE_DROPPED_TAG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clew.collector.trace.timeline import Timed

STATUS_TAGS: Final = ("http.status_code", "http.response.status_code", "grpc.status_code")
MAX_PATH: Final = 64  # steps of the way from the root that a row remembers; no terminal shows more


@dataclass(frozen=True, slots=True)
class Row:
    """One span in its place. Times in microseconds, corrected for skewed clocks; None where not recorded.

    `path` has one character per level below the root: ``│`` or a space for each ancestor (more siblings to come or
    not), ``├`` or ``└`` for the row itself; only the last `MAX_PATH` of them. `error` is the message of a failure,
    possibly empty, None for success. `target` is the path of an HTTP call whose name is but its
    method. `lost` counts spans of this trace that its process had to drop. `stack` is where the failure came from.
    `critical` are the stretches (begin and end, microseconds) in which the trace waited for this very span.
    """

    id: str
    service: str
    name: str
    kind: str
    depth: int
    path: str
    parent_service: str | None
    start_us: int | None
    duration_us: int | None
    error: str | None
    status: str
    orphan: bool
    target: str = ""
    lost: int = 0
    stack: str = ""
    critical: tuple[tuple[int, int], ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    annotations: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class LogLine:
    """One log record; `timestamp_us` since the epoch, `span_id` empty outside a span, `exception` a traceback."""

    timestamp_us: int
    service: str
    level: str
    logger: str
    message: str
    span_id: str = ""
    exception: str = ""
    trace_id: str = ""


def parse_spans(answer: Any) -> list[Span]:
    """Return the spans of a Zipkin v2 answer; ValueError (with the place) if it is something else."""
    return msgspec.convert(answer, list[Span], strict=False)  # msgspec.ValidationError is a ValueError


def parse_logs(answer: Any) -> list[LogLine]:
    """Return the log records of an answer of ``/api/v1/logs``, in time order; what is no record is left out."""
    lines = [_parse_log(record) for record in answer if isinstance(record, dict)] if isinstance(answer, list) else []
    return sorted(lines, key=lambda line: line.timestamp_us)


def rows(spans: Sequence[Span]) -> list[Row]:
    """Return the rows of one trace from the root down, children beneath their parents in time order."""
    timeline = lay_out(spans)
    known = {span.id for span in spans}
    critical: dict[int, list[tuple[int, int]]] = {}
    for timed, begin, end in critical_path(timeline):
        critical.setdefault(id(timed), []).append((begin, end))
    paths: dict[int, tuple[int, str]] = {}
    found: list[Row] = []
    for timed in timeline:  # parents come before their children
        depth, path = paths[id(timed)] = _path(timed, paths)
        found.append(_row(timed, depth, path, tuple(critical.get(id(timed), ())), known))
    return found


def findings(spans: Sequence[Span]) -> list[Finding]:
    """Return what is worth a look in the trace, in words."""
    return find(spans)


def _path(timed: Timed, paths: dict[int, tuple[int, str]]) -> tuple[int, str]:
    """Return depth and path of a span, from those of its parent; without a parent that came it is a root itself."""
    if timed.parent is None:
        return 0, ""
    depth, path = paths[id(timed.parent)]
    outer = path.replace("├", "│").replace("└", " ")[-MAX_PATH + 1 :]
    return depth + 1, outer + ("└" if timed is timed.parent.children[-1] else "├")


def _row(timed: Timed, depth: int, path: str, critical: tuple[tuple[int, int], ...], known: set[str]) -> Row:
    span = timed.span
    return Row(
        id=span.id,
        service=span.service or "",
        name=span.name or "",
        kind=span.kind or "",
        depth=depth,
        path=path,
        parent_service=None if timed.parent is None else timed.parent.span.service or "",
        start_us=timed.begin_us if span.timestamp else None,
        duration_us=span.duration or None,
        error=span.tags.get("error"),
        status=next((span.tags[tag] for tag in STATUS_TAGS if tag in span.tags), ""),
        orphan=span.parent_id is not None and span.parent_id not in known,
        target=target(span.name or "", span.tags),
        lost=_count(span.tags.get(TRACE_DROPPED_TAG, "")),
        stack=span.tags.get(ERROR_STACK_TAG, "").rstrip("\n"),
        tags={key: value for key, value in span.tags.items() if key != ERROR_STACK_TAG},
        critical=critical,
        annotations=tuple((note.timestamp - timed.skew_us, note.value) for note in span.annotations),
    )


def _count(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _parse_log(record: dict[str, Any]) -> LogLine:
    timestamp = record.get("timestamp")
    return LogLine(
        timestamp_us=int(timestamp) if isinstance(timestamp, (int, float)) else 0,
        service=str(record.get("service", "")),
        level=str(record.get("level", "")),
        logger=str(record.get("logger", "")),
        message=str(record.get("message", "")),
        span_id=str(record.get("id", "")),
        exception=str(record.get("exception", "")),
        trace_id=str(record.get("traceId", "")),
    )
