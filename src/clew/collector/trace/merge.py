"""Spans of one trace as reported -> spans as they happened.

A span may arrive in parts (the begin now, the tags later), and in B3 tracing a client and its server report under one
id. Parts are joined; the two sides of a call stay apart and get the flags that a careless reporter left out. The rules
are those of Zipkin's ``zipkin2.internal.Trace``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from clew.collector.trace.span import Endpoint, Span, sorted_annotations, sorted_tags

if TYPE_CHECKING:
    from collections.abc import Sequence


def merge_spans(spans: Sequence[Span]) -> list[Span]:
    """Join the parts of each span of one trace and return them ordered by id, client before server.

    All spans must belong to one trace; where some carry only its lower 64 bits, all get the long id. The input is not
    changed.
    """
    if len(spans) <= 1:
        return list(spans)
    trace_id = _best_trace_id(spans)
    merged: list[Span] = []
    for part_group in _groups(sorted(spans, key=_merge_order)):
        previous = merged[-1] if merged else None
        merged.append(_repair(_join(part_group, trace_id), previous))
    return merged


def _best_trace_id(spans: Sequence[Span]) -> str:
    """Return a 128-bit trace id when any span has one: some services cut it to 64 bits."""
    return max((span.trace_id for span in spans), key=len)


def _merge_order(span: Span) -> tuple[Any, ...]:
    """Order by id, then the client's side first, then spans without endpoint: they join the first that has one."""
    side = 2 if span.shared else 0 if span.kind == "CLIENT" else 1
    endpoint = span.local_endpoint
    if endpoint is None:
        return span.id, side, 0
    return (
        span.id,
        side,
        1,
        *_none_last(endpoint.service_name),
        *_none_last(endpoint.ipv4),
        *_none_last(endpoint.ipv6),
    )


def _none_last(text: str | None) -> tuple[bool, str]:
    return text is None, text or ""


def _groups(ordered: list[Span]) -> list[list[Span]]:
    """Split ordered spans into the lists that are parts of one."""
    groups: list[list[Span]] = []
    place: Endpoint | None = None
    for span in ordered:
        if groups and _is_part_of(groups[-1][0], place, span):
            groups[-1].append(span)
            place = _widen(place, span.local_endpoint)
        else:
            groups.append([span])
            place = span.local_endpoint
    return groups


def _is_part_of(first: Span, place: Endpoint | None, span: Span) -> bool:
    return first.id == span.id and first.shared == span.shared and _compatible(place, span.local_endpoint)


def _compatible(known: Endpoint | None, other: Endpoint | None) -> bool:
    """Whether both can be one place: nothing that both know differs."""
    if known is None or other is None:
        return True
    pairs = (
        (known.service_name, other.service_name),
        (known.ipv4, other.ipv4),
        (known.ipv6, other.ipv6),
        (known.port, other.port),
    )
    return all(not left or not right or left == right for left, right in pairs)


def _widen(known: Endpoint | None, other: Endpoint | None) -> Endpoint | None:
    if known is None or other is None:
        return known or other
    return known.merged_with(other)


def _join(parts: list[Span], trace_id: str) -> Span:
    """Make one span of its parts: the first that knows a thing decides; annotations and tags are united."""
    span = parts[0]
    if len(parts) == 1:
        return span if span.trace_id == trace_id else replace(span, trace_id=trace_id)
    joined = span
    for part in parts[1:]:
        joined = _join_two(joined, part)
    shared = joined.shared and joined.kind != "CLIENT"
    parent_id = None if joined.parent_id == joined.id else joined.parent_id
    return replace(joined, trace_id=trace_id, shared=shared, parent_id=parent_id)


def _join_two(span: Span, part: Span) -> Span:
    return Span(
        trace_id=span.trace_id,
        parent_id=span.parent_id or part.parent_id,
        id=span.id,
        kind=span.kind or part.kind,
        name=span.name or part.name,
        timestamp=span.timestamp or part.timestamp,
        duration=span.duration or part.duration,
        local_endpoint=_widen(span.local_endpoint, part.local_endpoint),
        remote_endpoint=_widen(span.remote_endpoint, part.remote_endpoint),
        annotations=sorted_annotations((a.timestamp, a.value) for a in span.annotations + part.annotations),
        tags=sorted_tags({**span.tags, **part.tags}),
        debug=span.debug or part.debug,
        shared=span.shared or part.shared,
    )


def _repair(span: Span, previous: Span | None) -> Span:
    """Give the server's side of a shared id what its reporter forgot: the flag, and the parent its client knows."""
    if previous is None or previous.id != span.id:
        return span
    if previous.kind == "CLIENT" and span.kind == "SERVER" and not span.shared:
        span = replace(span, shared=True)
    if span.shared and span.parent_id is None and previous.parent_id is not None:
        span = replace(span, parent_id=previous.parent_id)
    return span
