"""The statements in ``sql/``, one a file, and what their placeholders stand for.

``$SPAN`` and ``$LOG`` stand for the columns of a row as :mod:`clew.collector.store.columns` reads them, ``$TRACE`` for
what makes a trace (its id, or the lower half when ``loose``), ``$KEY`` for its key in ``trace_index``, ``$REACH`` for
the rows that :func:`clew.collector.query.window.reach` tells of; everything that comes from outside is a bound
``{name:Type}``. A part in ``[[name: ...]]`` is there only when the parameter of that name is given and not empty: the
engine would fold an unused condition away, too, but takes milliseconds to think about each.
"""

from __future__ import annotations

import functools
import re
from importlib import resources
from typing import Final

from clew.collector.store import columns

KEY: Final = "toUInt32(cityHash64(substring(trace_id, 9)))"
_OPTIONAL: Final = re.compile(r"\[\[(\w+): ((?:(?!\[\[|\]\]).)*)\]\]", re.DOTALL)  # the innermost

# Spans that something is counted over; "exact": what was reported twice comes once, as long as that fits into memory.
_COUNTED: Final = """(SELECT * FROM spans WHERE $IN_TIME AND $CHOSEN
      [[exact: LIMIT 1 BY trace_id, timestamp, span_id, shared]])"""

# What stands for what in the statements; in this order, for one may hold the next.
_PLACEHOLDERS: Final = {
    "$SPAN": columns.selected(columns.SPANS),
    "$LOG": columns.selected(columns.LOGS),
    "$REACH": """(intDiv(timestamp, 600000000) BETWEEN {near_first:UInt64} AND {near_last:UInt64}
       [[far_ids: OR (intDiv(timestamp, 600000000), trace_id) IN (
         SELECT place.1, toFixedString(unhex(place.2), 16)
         FROM (SELECT arrayJoin(arrayZip({far_id_buckets:Array(UInt64)}, {far_ids:Array(String)})) AS place))]]
       [[far_keys: OR intDiv(timestamp, 600000000) IN {far_buckets:Array(UInt64)}
         AND $KEY IN {far_keys:Array(UInt32)}]])""",
    "$KEY": KEY,
    "$TRACE": "[[strict: trace_id]][[loose: substring(trace_id, 9)]]",
    "$IN_TIME": """(intDiv(timestamp, 600000000) BETWEEN intDiv({since:UInt64}, 600000000) AND
         intDiv({until:UInt64}, 600000000) AND timestamp BETWEEN {since:UInt64} AND {until:UInt64})""",
    "$NUMBERS": """count() AS count, countIf(mapContains(tags, 'error')) AS errors,
       quantilesDDIf(0.01, 0.5, 0.95, 0.99)(duration, duration > 0) AS percentiles""",
}


@functools.lru_cache(maxsize=1_024)
def read_statement(name: str, given: frozenset[str] = frozenset(), parts: tuple[tuple[str, str], ...] = ()) -> str:
    """Return the statement ``sql/<name>.sql`` with its placeholders filled in, for these parameters given.

    ``parts`` are compiled conditions by name; a part that is there counts as given, and may hold placeholders.
    """
    sql = read_file(name).replace("$COUNTED", _COUNTED)
    given |= {part for part, _ in parts}
    for part, text in parts:
        sql = sql.replace(f"${part}", text)
    for placeholder, text in _PLACEHOLDERS.items():
        sql = sql.replace(placeholder, text)
    while (chosen := _OPTIONAL.sub(lambda part: part[2] if part[1] in given else "", sql)) != sql:
        sql = chosen  # from the innermost to the outermost
    return sql


def read_file(name: str, folder: str = "sql") -> str:
    """Return the text of a statement as it lies there."""
    return (resources.files("clew.collector.store") / folder / f"{name}.sql").read_text(encoding="utf-8").strip()


def literal(text: str) -> str:
    """Return a text as SQL writes it, for statements that take no bound parameters."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
