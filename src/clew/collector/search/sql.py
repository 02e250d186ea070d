"""From a search's tree to conditions for the engine: every value bound, never written into the text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

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

_COLUMNS: Final = {
    "service": "local_service",
    "name": "name",
    "kind": "kind",
    "remote": "remote_service",
}
_IDS: Final = {"trace": ("trace_id", 16), "span": ("span_id", 8)}
_IS_ROOT: Final = "parent_id IN (toFixedString('', 8), span_id)"
_FINITE: Final = "[+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]+)?"


@dataclass(slots=True)
class Compiled:
    """SQL and the values bound in it, by name; further parts of one statement add to the same values."""

    parameters: dict[str, object] = field(default_factory=dict)
    prefix: str = "q"
    lines: str = "intDiv(timestamp, 600000000) BETWEEN {first_bucket:UInt64} AND {last_bucket:UInt64}"
    """Which log lines free text looks at: a condition on rows of ``logs``."""

    def bind(self, value: object, kind: str = "String") -> str:
        """Return the placeholder of a value."""
        name = f"{self.prefix}{len(self.parameters)}"
        self.parameters[name] = value
        return f"{{{name}:{kind}}}"


def compile_condition(condition: Condition, into: Compiled) -> str:
    """Return an expression over a row of ``spans`` that is 1 where the condition holds and 0 elsewhere, never null.

    Free text looks at log lines of the statement's window, ``{first_bucket:UInt64}`` to ``{last_bucket:UInt64}``, too.
    """
    if isinstance(condition, (And, Or)):
        word = " AND " if isinstance(condition, And) else " OR "
        parts = [compile_condition(part, into) for part in condition.of]  # type: ignore[arg-type]
        return f"({word.join(parts)})" if parts else str(int(isinstance(condition, And)))
    if isinstance(condition, Not):
        return f"NOT {compile_condition(condition.of, into)}"  # type: ignore[arg-type]
    if isinstance(condition, Exists):
        return _exists(condition.field, into)
    if isinstance(condition, Text):
        return _text(condition.text, into)
    if isinstance(condition, Compare):
        return _builtin(condition, into) if condition.field.builtin else _tag(condition, into)
    raise TypeError(f"{condition!r} is a question about a trace, not about a span")


def compile_value(asked: Field, into: Compiled) -> tuple[str, str]:
    """Return an expression for the text of a field of a row of ``spans``, and one for whether the row has it."""
    if asked.builtin:
        value = {"trace": "lower(hex(trace_id))", "span": "lower(hex(span_id))"}.get(asked.name)
        return value or f"toString({_COLUMNS.get(asked.name, asked.name)})", _exists(asked, into)
    keys = [into.bind(field.name) for field in asked.spellings]
    has = " OR ".join(f"mapContains(tags, {key})" for key in keys)
    chosen = ", ".join(f"mapContains(tags, {key}), tags[{key}]" for key in keys)
    return f"multiIf({chosen}, '')", f"({has})"


def compile_id(asked: Compare | Exists, into: Compiled) -> str:
    """Return a condition on the id of a trace or span in a row that need not have one, such as a log line."""
    column, size = _IDS[asked.field.name]
    there = f"{column} != toFixedString('', {size})"
    return there if isinstance(asked, Exists) else f"({there} AND {_id(asked, into)})"


def compile_query(query: Query, into: Compiled) -> str:
    """Return an aggregate expression over all spans of a trace (``GROUP BY trace_id``): 1 where the query holds.

    Who lies beneath whom over more than one step is asked as "both are there": see ``needs_tree``.
    """
    if isinstance(query, (And, Or)):
        word = " AND " if isinstance(query, And) else " OR "
        parts = [compile_query(part, into) for part in query.of]  # type: ignore[arg-type]
        return f"({word.join(parts)})" if parts else str(int(isinstance(query, And)))
    if isinstance(query, Not):
        if _is_loose(query.of):  # type: ignore[arg-type]
            return "1"  # decided with the trace at hand
        return f"NOT {compile_query(query.of, into)}"  # type: ignore[arg-type]
    if isinstance(query, Somewhere):
        return f"max({compile_condition(query.condition, into)})"
    if isinstance(query, AtRoot):
        return f"max({_IS_ROOT} AND {compile_condition(query.condition, into)})"
    if isinstance(query, Beneath):
        upper, lower = compile_condition(query.upper, into), compile_condition(query.lower, into)
        if not query.directly:
            return f"(max({upper}) AND max({lower}))"
        parents = f"groupUniqArrayIf(parent_id, parent_id != span_id AND {lower})"
        return f"hasAny(groupUniqArrayIf(span_id, {upper}), {parents})"
    raise TypeError(f"{query!r} is a condition on a span, not on a trace")


def _is_loose(query: Query) -> bool:
    """Tell whether the SQL of a query holds of more traces than the query itself."""
    if isinstance(query, (And, Or)):
        return any(map(_is_loose, query.of))  # type: ignore[arg-type]
    if isinstance(query, Not):
        return _is_loose(query.of)  # type: ignore[arg-type]
    return isinstance(query, Beneath) and not query.directly


def _exists(asked: Field, into: Compiled) -> str:
    if not asked.builtin:
        return f"mapContains(tags, {into.bind(asked.name)})"
    if asked.name in _IDS:
        return "1"
    return "duration > 0" if asked.name == "duration" else f"{_COLUMNS[asked.name]} != ''"


def _builtin(asked: Compare, into: Compiled) -> str:
    name = asked.field.name
    if name == "duration":
        if asked.operator == "~":
            return f"(duration > 0 AND match(toString(duration), {into.bind(asked.value)}))"
        return f"(duration > 0 AND duration {asked.operator} {into.bind(asked.number, 'Float64')})"
    if name in _IDS:
        return _id(asked, into)
    column = _COLUMNS[name]
    if asked.operator == "~":
        pattern = asked.value if name == "kind" else f"(?i){asked.value}"
        return f"({column} != '' AND match({column}, {into.bind(pattern)}))"
    return f"({column} != '' AND {column} {asked.operator} {into.bind(asked.value)})"


def _id(asked: Compare, into: Compiled) -> str:
    column, size = _IDS[asked.field.name]
    if asked.operator == "=":
        padded = asked.value.zfill(2 * size)
        try:
            bytes.fromhex(padded)
        except ValueError:
            return "0"  # no id at all
        return f"{column} = toFixedString(unhex({into.bind(padded)}), {size})" if len(padded) == 2 * size else "0"
    shown = f"lower(hex({column}))"
    if asked.field.name == "trace":  # as it is shown: without the zeros of a 64-bit id
        shown = f"lower(hex(if(startsWith({column}, toFixedString('', 8)), substring({column}, 9), {column})))"
    if asked.operator == "~":
        return f"match({shown}, {into.bind(asked.value)})"
    return f"{shown} {asked.operator} {into.bind(asked.value)}"


def _tag(asked: Compare, into: Compiled) -> str:
    key = into.bind(asked.field.name)
    if asked.operator == "=":
        value = into.bind(asked.value)
        if asked.value == "":
            return f"(mapContains(tags, {key}) AND tags[{key}] = '')"
        return f"(has(mapValues(tags), {value}) AND tags[{key}] = {value})"  # the first part is what the index has
    if asked.operator == "~":
        return f"(mapContains(tags, {key}) AND match(tags[{key}], {into.bind(asked.value)}))"
    if asked.number is None:
        return f"(mapContains(tags, {key}) AND tags[{key}] {asked.operator} {into.bind(asked.value)})"
    number = f"toFloat64OrZero(tags[{key}]) {asked.operator} {into.bind(asked.number, 'Float64')}"
    return f"(match(tags[{key}], '^{_FINITE}$') AND {number})"


def _text(text: str, into: Compiled) -> str:
    words = into.bind(text)

    def says(what: str) -> str:
        return f"positionCaseInsensitiveUTF8({what}, {words}) > 0"

    said = f"{into.lines} AND ({says('message')} OR {says('exception')})"
    logged = f"SELECT trace_id, span_id FROM logs WHERE {said}"  # noqa: S608 - every value in it is bound
    tagged = f"arrayExists(value -> {says('value')}, mapValues(tags))"
    noted = f"arrayExists(value -> {says('value')}, annotation_values)"
    return f"({says('name')} OR {tagged} OR {noted} OR (trace_id, span_id) IN ({logged}))"
