"""Judge spans at hand by a search: for the live tail, for who lies beneath whom, and as the measure of the SQL."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from clew.collector.search.tree import (
    And,
    AtRoot,
    Beneath,
    Compare,
    Condition,
    Exists,
    Field,
    Not,
    Or,
    Query,
    Somewhere,
    Text,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clew.collector.trace.span import Span

_FOLDED: Final = frozenset({"service", "name", "remote"})  # stored in lower case
_NO_LINES: Final[dict[str, list[str]]] = {}
_NUMBER: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")


def matches(query: Query, spans: Sequence[Span], lines: Mapping[str, Sequence[str]] = _NO_LINES) -> bool:
    """Tell whether a trace is found by a query. ``lines``: what was logged, by span id."""
    if isinstance(query, And):
        return all(matches(part, spans, lines) for part in query.of)  # type: ignore[arg-type]
    if isinstance(query, Or):
        return any(matches(part, spans, lines) for part in query.of)  # type: ignore[arg-type]
    if isinstance(query, Not):
        return not matches(query.of, spans, lines)  # type: ignore[arg-type]
    if isinstance(query, Somewhere):
        return any(span_matches(query.condition, span, lines) for span in spans)
    if isinstance(query, AtRoot):
        return any(_is_root(span) and span_matches(query.condition, span, lines) for span in spans)
    if isinstance(query, Beneath):
        return _beneath(query, spans, lines)
    raise TypeError(f"{query!r} is a condition on a span, not on a trace")


def span_matches(condition: Condition, span: Span, lines: Mapping[str, Sequence[str]] = _NO_LINES) -> bool:
    """Tell whether a condition holds of a span."""
    if isinstance(condition, And):
        return all(span_matches(part, span, lines) for part in condition.of)  # type: ignore[arg-type]
    if isinstance(condition, Or):
        return any(span_matches(part, span, lines) for part in condition.of)  # type: ignore[arg-type]
    if isinstance(condition, Not):
        return not span_matches(condition.of, span, lines)  # type: ignore[arg-type]
    if isinstance(condition, Exists):
        return _value(condition.field, span) is not None
    if isinstance(condition, Text):
        return _says(condition.text.lower(), span, lines)
    if isinstance(condition, Compare):
        return _compares(condition, span)
    raise TypeError(f"{condition!r} is a question about a trace, not about a span")


def _is_root(span: Span) -> bool:
    return span.parent_id is None or span.parent_id == span.id


def _beneath(query: Beneath, spans: Sequence[Span], lines: Mapping[str, Sequence[str]]) -> bool:
    parents = {span.id: span.parent_id for span in spans if span.parent_id and span.parent_id != span.id}
    above = {span.id for span in spans if span_matches(query.upper, span, lines)}
    for span in spans:
        if not span_matches(query.lower, span, lines):
            continue
        seen: set[str] = set()
        parent = None if span.parent_id == span.id else span.parent_id
        while parent is not None and parent not in seen:
            if parent in above:
                return True
            if query.directly:
                break
            seen.add(parent)  # a circle of parents is legal input
            parent = parents.get(parent)
    return False


def _value(field: Field, span: Span) -> str | None:
    if not field.builtin:
        return span.tags.get(field.name)
    found = {
        "service": span.service,
        "name": span.name,
        "kind": span.kind,
        "duration": str(span.duration) if span.duration else None,
        "remote": span.remote_service,
        "trace": span.trace_id,
        "span": span.id,
    }[field.name]
    return found or None


def _compares(condition: Compare, span: Span) -> bool:
    value = _value(condition.field, span)
    if value is None:
        return False
    if condition.operator == "~":
        flags = re.IGNORECASE if condition.field.builtin and condition.field.name in _FOLDED else 0
        return _pattern(condition.value, flags).search(value) is not None
    if condition.number is not None:
        return _ordered(condition.operator, float(value), condition.number) if _NUMBER.fullmatch(value) else False
    if condition.field.builtin and condition.field.name == "trace" and condition.operator == "=":
        return value.zfill(32) == condition.value.zfill(32)
    return _ordered(condition.operator, value.encode(), condition.value.encode())


def _ordered(operator: str, left: float | bytes, right: float | bytes) -> bool:
    if operator == "=":
        return left == right
    if operator == ">":
        return left > right  # type: ignore[operator]
    if operator == ">=":
        return left >= right  # type: ignore[operator]
    return left < right if operator == "<" else left <= right  # type: ignore[operator]


def _says(text: str, span: Span, lines: Mapping[str, Sequence[str]]) -> bool:
    said = (
        span.name or "",
        *span.tags.values(),
        *(note.value for note in span.annotations),
        *lines.get(span.id, ()),
    )
    return any(text in part.lower() for part in said)


@lru_cache(maxsize=64)
def _pattern(text: str, flags: int) -> re.Pattern[str]:
    return re.compile(text, flags)
