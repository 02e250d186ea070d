"""A trace as a person looks at it: spans in reading order, clocks put right, and what is known to be missing.

Used by the page, the command line and ``/api/v1/traces/{id}``. Nothing is hidden: corrected times come with the raw
ones, loss that clients reported is summed, parents that never arrived are named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from clew import wire
from clew.collector.trace.findings import find
from clew.collector.trace.skew import correct_skew
from clew.collector.trace.timeline import critical_path, lay_out, own_time_us, time_on_path
from clew.collector.trace.tree import build_tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from clew.collector.trace.span import Span
    from clew.collector.trace.tree import Node

_MAX_LOSS = 2**53  # what a JSON reader can hold exactly; a client cannot have lost more


def view_trace(spans: Sequence[Span], *, truncated: bool = False) -> dict[str, Any]:
    """Return the trace as a JSON-ready object. ``spans`` are all of one trace, at least one.

    Members: ``traceId``; ``timestamp`` and ``durationUs`` (from the first begin to the last end, corrected clocks);
    ``spans``, depth first, each with its Zipkin members plus ``depth``, ``skewUs`` (0: not moved), ``rawTimestamp``,
    ``selfUs`` (while no child ran), ``pathUs`` (on the critical path) and ``orphan``; ``services`` (name, spans,
    errors); ``errors``; ``criticalPath`` (``spanId``, ``beginUs``, ``endUs``); ``findings``; ``missing`` (``root``: no
    span without parent came; ``parents``: ids that spans name but that never came; ``atLeast``: so many spans, those
    parents or what processes dropped of this trace, whichever is more, for they may be the same); ``dropped`` (by
    reason, as the processes of this trace reported since their last batch) and ``traceDropped`` (spans of this very
    trace); ``truncated`` (there are more spans than were read).
    """
    tree = build_tree(spans)
    tree.adopt_lost()
    skew = correct_skew(tree)
    known = {span.id for _, span in tree.root.spans()}
    rows = [_row(node, span, depth, skew.get(id(node), 0), known) for node, span, depth in _depth_first(tree.root)]
    timeline = lay_out(spans)
    path = critical_path(timeline)
    on_path = time_on_path(path)
    for row, timed in zip(rows, timeline, strict=True):  # both depth first
        row["selfUs"], row["pathUs"] = own_time_us(timed), on_path.get(id(timed), 0)
    lost = sum(_count(span.tags.get(wire.TRACE_DROPPED_TAG, "")) for span in spans)
    parents = sorted({row["parentId"] for row in rows if row["orphan"]})
    begin, end = _extent(rows)
    return {
        "traceId": max((span.trace_id for span in spans), key=len),
        "timestamp": begin,
        "durationUs": end - begin,
        "spans": rows,
        "services": _services(span for _, span in tree.root.spans()),
        "errors": sum("error" in row["tags"] for row in rows),
        "criticalPath": [{"spanId": timed.span.id, "beginUs": begin, "endUs": end} for timed, begin, end in path],
        "findings": find(spans),
        "missing": {"root": tree.root.span is None, "parents": parents, "atLeast": max(len(parents), lost)},
        "dropped": _dropped(spans),
        "traceDropped": lost,
        "truncated": truncated,
    }


def _depth_first(root: Node) -> Iterator[tuple[Node, Span, int]]:
    todo = [(root, 0)]
    while todo:
        node, depth = todo.pop()
        below = depth
        if node.span is not None:
            yield node, node.span, depth
            below += 1
        todo.extend((child, below) for child in reversed(node.children))


def _row(node: Node, span: Span, depth: int, skew_us: int, known: set[str]) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(span)
    row["tags"] = span.tags
    row["timestamp"] = span.timestamp - skew_us if span.timestamp else 0
    row["rawTimestamp"] = span.timestamp
    row["duration"] = span.duration
    row["skewUs"] = skew_us
    row["annotations"] = [{"timestamp": a.timestamp - skew_us, "value": a.value} for a in span.annotations]
    row["depth"] = depth
    row["orphan"] = span.parent_id is not None and span.parent_id not in known
    return row


def _extent(rows: list[dict[str, Any]]) -> tuple[int, int]:
    """Return when the trace began and ended, (0, 0) when no span knows."""
    timed = [row for row in rows if row["timestamp"]]
    if not timed:
        return 0, 0
    return min(row["timestamp"] for row in timed), max(row["timestamp"] + row["duration"] for row in timed)


def _services(spans: Iterator[Span]) -> list[dict[str, Any]]:
    """Count spans and errors by service, in the order in which the trace reaches them."""
    counts: dict[str, dict[str, Any]] = {}
    for span in spans:
        if span.service is None:
            continue
        entry = counts.setdefault(span.service, {"name": span.service, "spans": 0, "errors": 0})
        entry["spans"] += 1
        entry["errors"] += span.failed
    return list(counts.values())


def _dropped(spans: Sequence[Span]) -> dict[str, int]:
    """Sum the loss by reason over all spans; what is not of the form ``reason=count`` is passed over."""
    sums: dict[str, int] = {}
    for span in spans:
        for item in span.tags.get(wire.DROPPED_TAG, "").split(","):
            reason, _, count = item.strip().partition("=")
            if reason and _count(count):
                sums[reason] = sums.get(reason, 0) + _count(count)
    return sums


def _count(text: str) -> int:
    """Return the number, 0 for anything that is not a plausible count."""
    return min(int(text), _MAX_LOSS) if text.isascii() and text.isdecimal() and len(text) < 20 else 0
