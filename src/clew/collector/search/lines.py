"""The same language over log lines: conditions for the engine, and a judgement on lines at hand.

A line has the fields of :data:`LINE_FIELDS`, and free text is looked for in message and exception. Any other field asks
for lines of traces that have a span with it: ``customer.id = 42 and level >= ERROR`` finds what went wrong for that
customer, whatever the lines say. Levels are ordered as people order them, ``WARN`` is ``WARNING``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from clew.collector.search.evaluate import span_matches
from clew.collector.search.sql import Compiled, compile_condition, compile_id
from clew.collector.search.tree import And, Compare, Condition, Exists, Not, Or, Text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clew.collector.trace.span import Span

LINE_FIELDS: Final = {
    "service": "the service that logged the line",
    "level": "DEBUG, INFO, WARNING, ERROR, CRITICAL",
    "logger": "the logger's name",
    "message": "the line's text",
    "exception": "the traceback that came with it",
    "trace": "the trace's id",
    "span": "the span's id",
}
LEVELS: Final = (
    ("TRACE", "NOTSET"),
    ("DEBUG",),
    ("INFO", "SUCCESS", "NOTICE"),
    ("WARNING", "WARN"),
    ("ERROR", "ERR", "EXCEPTION"),
    ("CRITICAL", "FATAL", "ALERT", "EMERGENCY"),
)
_SPANS: Final = "(trace_id != toFixedString('', 16) AND trace_id IN (SELECT trace_id FROM spans WHERE $REACH AND "


def levels_from(level: str) -> list[str]:
    """Return the level and all worse ones; only itself when it is not a usual one; [] for ''."""
    return _levels(">=", level) if level else []


def compile_lines(condition: Condition, into: Compiled) -> str:
    """Return an expression over a row of ``logs`` that is 1 where the condition holds and 0 elsewhere.

    Traces are looked for within ``$REACH``.
    """
    if isinstance(condition, (And, Or)):
        word = " AND " if isinstance(condition, And) else " OR "
        parts = [compile_lines(part, into) for part in condition.of]  # type: ignore[arg-type]
        return f"({word.join(parts)})" if parts else str(int(isinstance(condition, And)))
    if isinstance(condition, Not):
        return f"NOT {compile_lines(condition.of, into)}"  # type: ignore[arg-type]
    if isinstance(condition, Text):
        words = into.bind(condition.text)
        said = (f"positionCaseInsensitiveUTF8({column}, {words}) > 0" for column in ("message", "exception"))
        return f"({' OR '.join(said)})"
    if isinstance(condition, (Compare, Exists)):
        name = condition.field.name
        if name not in LINE_FIELDS:
            return f"{_SPANS}{compile_condition(condition, into)}))"
        if name in ("trace", "span"):
            return compile_id(condition, into)
        return _exists(name) if isinstance(condition, Exists) else _compare(condition, into)
    raise TypeError(f"{condition!r} is a question about a trace, not about a line")


def _exists(name: str) -> str:
    return f"{name} != ''"


def _compare(asked: Compare, into: Compiled) -> str:
    name = asked.field.name
    if asked.operator == "~":
        pattern = f"(?i){asked.value}" if name in ("service", "level") else asked.value
        return f"({_exists(name)} AND match({name}, {into.bind(pattern)}))"
    if name == "level":
        return f"level IN {into.bind(_levels(asked.operator, asked.value), 'Array(String)')}"
    return f"({_exists(name)} AND {name} {asked.operator} {into.bind(asked.value)})"


def _levels(operator: str, level: str) -> list[str]:
    """Return the levels that are so; only itself for one that is not a usual one."""
    level = level.upper()
    place = next((place for place, names in enumerate(LEVELS) if level in names), None)
    if place is None:
        return [level]
    chosen = {
        "=": LEVELS[place : place + 1],
        ">": LEVELS[place + 1 :],
        ">=": LEVELS[place:],
        "<": LEVELS[:place],
        "<=": LEVELS[: place + 1],
    }[operator]
    return [name for names in chosen for name in names]


def line_matches(condition: Condition, line: Mapping[str, str], spans: Sequence[Span]) -> bool:
    """Tell whether a condition holds of a line (by the names of ``LINE_FIELDS``); ``spans``: those of its trace."""
    if isinstance(condition, And):
        return all(line_matches(part, line, spans) for part in condition.of)  # type: ignore[arg-type]
    if isinstance(condition, Or):
        return any(line_matches(part, line, spans) for part in condition.of)  # type: ignore[arg-type]
    if isinstance(condition, Not):
        return not line_matches(condition.of, line, spans)  # type: ignore[arg-type]
    if isinstance(condition, Text):
        words = condition.text.lower()
        return any(words in line.get(name, "").lower() for name in ("message", "exception"))
    if not isinstance(condition, (Compare, Exists)):
        raise TypeError(f"{condition!r} is a question about a trace, not about a line")
    value = line.get(condition.field.name, "")
    if condition.field.name not in LINE_FIELDS:
        return any(span_matches(condition, span) for span in spans)
    return bool(value) if isinstance(condition, Exists) else bool(value) and _says(condition, value)


def _says(asked: Compare, value: str) -> bool:
    if asked.operator == "~":
        flags = re.IGNORECASE if asked.field.name in ("service", "level") else 0
        return re.search(asked.value, value, flags) is not None
    if asked.field.name == "level":
        return value.upper() in _levels(asked.operator, asked.value)
    left, right = value.encode(), asked.value.encode()
    if asked.field.name == "trace" and asked.operator == "=":
        left, right = left.zfill(32), right.zfill(32)
    return {"=": left == right, ">": left > right, ">=": left >= right, "<": left < right, "<=": left <= right}[
        asked.operator
    ]
