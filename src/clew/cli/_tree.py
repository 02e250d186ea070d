"""Zipkin v2 spans and log records, as the collector answers them -> rows and lines ready to be drawn.

Who is whose child, which clock is wrong: that is `clew.collector.trace`, the same code as behind the API, so that
terminal and page never differ. Pure; no function recurses, because a chain of a thousand calls is legal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from clew.collector.trace import Span, build_tree, correct_skew
from clew.wire import ERROR_STACK_TAG, TRACE_DROPPED_TAG

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from clew.collector.trace import Node

STATUS_TAGS: Final = ("http.status_code", "http.response.status_code", "grpc.status_code")
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
MAX_PATH: Final = 64  # steps of the way from the root that a row remembers; no terminal shows more


@dataclass(frozen=True, slots=True)
class Row:
    """One span in its place. Times in microseconds, corrected for skewed clocks; None where not recorded.

    `path` has one character per level below the root: ``│`` or a space for each ancestor (more siblings to come or
    not), ``├`` or ``└`` for the row itself; only the last `MAX_PATH` of them. `error` is the message of a failure,
    possibly empty, None for success. `target` is the path of an HTTP call whose name is but its
    method. `lost` counts spans of this trace that its process had to drop. `stack` is where the failure came from.
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
    tree = build_tree(spans)
    tree.adopt_lost()
    corrections = correct_skew(tree)
    known = {span.id for span in spans}
    found: list[Row] = []
    for node, depth, path in _walk(tree.root):
        span = node.span
        if span is not None:
            orphan = span.parent_id is not None and span.parent_id not in known
            found.append(_row(node, span, depth, path, corrections.get(id(node), 0), orphan=orphan))
    return found


def _walk(root: Node) -> Iterator[tuple[Node, int, str]]:
    """Yield nodes depth first with depth and path; the children of a missing root are roots themselves."""
    todo = [(root, 0, "")] if root.span is not None else [(child, 0, "") for child in reversed(root.children)]
    while todo:
        node, depth, path = todo.pop()
        yield node, depth, path
        outer = path.replace("├", "│").replace("└", " ")[-MAX_PATH + 1 :]
        last = node.children[-1] if node.children else None
        todo.extend((child, depth + 1, outer + ("└" if child is last else "├")) for child in reversed(node.children))


def _row(node: Node, span: Span, depth: int, path: str, skew_us: int, *, orphan: bool) -> Row:
    parent = node.parent.span if node.parent is not None else None
    return Row(
        id=span.id,
        service=span.service or "",
        name=span.name or "",
        kind=span.kind or "",
        depth=depth,
        path=path,
        parent_service=None if parent is None else parent.service or "",
        start_us=span.timestamp - skew_us if span.timestamp else None,
        duration_us=span.duration or None,
        error=span.tags.get("error"),
        status=next((span.tags[tag] for tag in STATUS_TAGS if tag in span.tags), ""),
        orphan=orphan,
        target=_target(span),
        lost=_count(span.tags.get(TRACE_DROPPED_TAG, "")),
        stack=span.tags.get(ERROR_STACK_TAG, "").rstrip("\n"),
        tags={key: value for key, value in span.tags.items() if key != ERROR_STACK_TAG},
        annotations=tuple((note.timestamp - skew_us, note.value) for note in span.annotations),
    )


def _target(span: Span) -> str:
    """Return the path that a span with a name like ``get`` or ``POST`` is about: a route's template is in the name."""
    if (span.name or "").upper() not in METHODS:
        return ""
    try:
        return urlsplit(span.tags.get("http.url", "")).path or span.tags.get("http.path", "")
    except ValueError:
        return ""


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
