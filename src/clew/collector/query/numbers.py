"""A search -> numbers over the spans that it means: over time, by duration, by value, inside and outside a selection.

What is counted: where a search speaks of one span, the spans that are so ("spans"); where it speaks of a trace as a
whole, or of nothing, the roots of the traces found ("traces"). Asked for the other one, a search of one span counts the
roots of its traces, and a search of whole traces all spans of them.

A span that was reported twice counts once, in windows of up to :data:`EXACT_ROWS` spans; beyond that the engine would
need more memory than a question has.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from clew.collector.query import traces
from clew.collector.query.window import reach
from clew.collector.rows import short_id
from clew.collector.search.sql import Compiled, compile_condition, compile_value
from clew.collector.search.tree import EVERYTHING, AtRoot, Condition, Field, Query, Somewhere, needs_tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clew.collector.query.reader import Reader

EXACT_ROWS: Final = 2_000_000
MAX_TRACES: Final = 10_000  # of a search that is judged trace by trace
_SAMPLE: Final = 100_000  # spans on each side of a difference
_IS_ROOT: Final = "parent_id IN (toFixedString('', 8), span_id)"
_BY_ID: Final = "trace_id IN arrayMap(id -> toFixedString(unhex(id), 16), {chosen_ids:Array(String)})"


class Numbers(msgspec.Struct, rename="camel"):
    """How many, how many of them failed, how many a second; percentiles of how long (us, at most 1 % off)."""

    count: int
    errors: int
    per_second: float
    p50_us: float | None
    p95_us: float | None
    p99_us: float | None


class Point(Numbers, rename="camel"):
    """Numbers of the step that begins at ``timestamp``."""

    timestamp: int


class Bucket(msgspec.Struct, rename="camel"):
    """How many took from ``from_us`` to below ``to_us``, and how many of them failed."""

    from_us: float
    to_us: float
    count: int
    errors: int


class Cell(msgspec.Struct, rename="camel"):
    """A step of time and a stretch of durations, and some of the traces there."""

    timestamp: int
    from_us: float
    to_us: float
    count: int
    errors: int
    trace_ids: list[str]


class Value(Numbers, rename="camel"):
    """Numbers of the spans with this value."""

    value: str


class Values(msgspec.Struct, rename="camel"):
    """The most frequent values; of how many spans so many have the field, with about so many ``different`` values."""

    key: str
    values: list[Value]
    spans: int
    having: int
    different: int


class Difference(msgspec.Struct, rename="camel"):
    """A tag or field and its value: on which share (0 to 1) of the spans inside the selection and outside."""

    key: str
    value: str
    inside: float
    outside: float


class Chosen(NamedTuple):
    """The spans that a search means in a window; ``lacking`` says what is left out, and why."""

    parameters: dict[str, Any]
    parts: dict[str, str]
    lacking: str = ""


def everything(since: int, until: int) -> Chosen:
    """Return all spans of a short window."""
    return Chosen({"since": since, "until": until, "exact": True}, {"CHOSEN": "1"})


def choose(reader: Reader, query: Query, since: int, until: int, of: str = "") -> Chosen:
    """Find out which spans are meant; ``of`` is spans, traces or "" for what the search speaks of."""
    into = Compiled(lines="$REACH", prefix="c")
    window: dict[str, Any] = {"since": since, "until": until}
    rows = reader.select("measure_rows", window)[0]["number"]
    parameters = {**window, "exact": rows <= EXACT_ROWS, **reach(reader, since, until)}
    of = of or ("spans" if isinstance(query, (Somewhere, AtRoot)) else "traces")
    lacking = ""
    if query == EVERYTHING:
        chosen = "1" if of == "spans" else _IS_ROOT
    elif of == "spans" and isinstance(query, (Somewhere, AtRoot)):
        chosen = compile_condition(query.condition, into)
        chosen = f"{_IS_ROOT} AND {chosen}" if isinstance(query, AtRoot) else chosen
    else:
        if needs_tree(query):
            found = list(traces.ids(reader, traces.Search(query, since, until, MAX_TRACES)))
            parameters["chosen_ids"] = [trace_id.zfill(32) for trace_id in found]
            lacking = f"traces before the newest {MAX_TRACES:,} found" if len(found) == MAX_TRACES else ""
            chosen = _BY_ID
        else:
            chosen = _within(query, parameters)
        chosen = chosen if of == "spans" else f"{_IS_ROOT} AND {chosen}"
    return Chosen({**parameters, **into.parameters}, {"CHOSEN": f"({chosen})"}, lacking)


def _within(query: Query, parameters: dict[str, Any]) -> str:
    values, parts = traces.compiled(query)
    parameters.update(values)
    ids = "trace_id IN (SELECT trace_id FROM spans WHERE $REACH"
    lead = f" AND {ids} AND {parts['LEAD']})" if "LEAD" in parts else ""
    whole = f" HAVING {parts['WHOLE']}" if "WHOLE" in parts else ""
    return f"{ids}{lead} GROUP BY trace_id{whole})"


def series(reader: Reader, chosen: Chosen, step: int) -> tuple[Numbers, list[Point]]:
    """Return the numbers of the whole window, and of each step (microseconds) of it, also where there is nothing."""
    since, until = chosen.parameters["since"], chosen.parameters["until"]
    rows = reader.select("measure_series", {**chosen.parameters, "step": step}, chosen.parts)
    by_place = {row["place"]: row for row in rows if not row["total"]}
    total = next((row for row in rows if row["total"]), _NOTHING)
    points = []
    for place in range((until - since) // step + 1):
        begin = since + place * step
        length = min(step, until - begin + 1)
        points.append(Point(*_numbers(by_place.get(place, _NOTHING), length), timestamp=begin))
    return Numbers(*_numbers(total, until - since + 1)), points


_NOTHING: Final[dict[str, Any]] = {"count": 0, "errors": 0, "percentiles": [math.nan] * 3}


def _numbers(row: dict[str, Any], length_us: int) -> tuple[int, int, float, float | None, float | None, float | None]:
    p50, p95, p99 = (None if math.isnan(value) else value for value in row["percentiles"])
    return row["count"], row["errors"], row["count"] * 1e6 / length_us, p50, p95, p99


def durations(reader: Reader, chosen: Chosen) -> list[Bucket]:
    """Return how many took how long; stretches that are a fourth of a doubling wide."""
    rows = reader.select("measure_durations", chosen.parameters, chosen.parts)
    return [Bucket(*_stretch(row["bucket"]), row["count"], row["errors"]) for row in rows]


def heat(reader: Reader, chosen: Chosen, step: int) -> list[Cell]:
    """Return the same for each step (microseconds) of the window, with some of the traces."""
    rows = reader.select("measure_heat", {**chosen.parameters, "step": step}, chosen.parts)
    since = chosen.parameters["since"]
    return [
        Cell(
            since + row["place"] * step,
            *_stretch(row["bucket"]),
            row["count"],
            row["errors"],
            sorted(map(short_id, row["ids"])),
        )
        for row in rows
    ]


def _stretch(bucket: int) -> tuple[float, float]:
    return 2 ** (bucket / 4), 2 ** ((bucket + 1) / 4)


def values(reader: Reader, chosen: Chosen, field: Field, limit: int) -> Values:
    """Return the most frequent values of a field."""
    into = Compiled(prefix="v")
    value, has = compile_value(field, into)
    parts = {**chosen.parts, "VALUE": value, "HAS": has}
    parameters = {**chosen.parameters, **into.parameters, "limit": limit}
    length = parameters["until"] - parameters["since"] + 1
    about = reader.select("measure_field", parameters, parts)[0]
    rows = reader.select("measure_values", parameters, parts)
    found = [Value(*_numbers(row, length), value=row["value"]) for row in rows]
    return Values(field.name, found, about["spans"], about["having"], about["different"])


class Box(NamedTuple):
    """A selection of time (microseconds since 1970) and durations (microseconds), all ends included."""

    since: int
    until: int
    min_us: int
    max_us: int


def difference(
    reader: Reader, chosen: Chosen, selected: Condition | Box, limit: int
) -> tuple[int, int, list[Difference]]:
    """Return how many of the spans chosen are in the selection and how many not, and what tells them apart."""
    into = Compiled(lines="$REACH", prefix="s")
    if isinstance(selected, Box):
        begin, end, least, most = (into.bind(number, "UInt64") for number in selected)
        inside = f"(timestamp BETWEEN {begin} AND {end} AND duration BETWEEN {least} AND {most})"
    else:
        inside = compile_condition(selected, into)
    parameters = {**chosen.parameters, **into.parameters}
    parts = {**chosen.parts, "INSIDE": inside}
    counts = reader.select("measure_sides", parameters, parts)[0]
    every = {side: 1 + counts[side] // _SAMPLE for side in ("inside", "outside")}
    seen = {side: max(1.0, counts[side] / every[side]) for side in every}
    parameters |= {"inside_every": every["inside"], "outside_every": every["outside"], "limit": limit, **seen}
    rows = reader.select("measure_difference", parameters, parts)
    found = [
        Difference(
            row["key"],
            row["value"],
            _share(row["inside_count"], seen["inside"]),
            _share(row["outside_count"], seen["outside"]),
        )
        for row in rows
    ]
    return counts["inside"], counts["outside"], [entry for entry in found if entry.inside != entry.outside]


def _share(count: int, of: float) -> float:
    return min(1.0, count / of)


def steps(since: int, until: int, wanted: int) -> int:
    """Return a length of steps, in microseconds, that people read easily, for about so many of them."""
    least = (until - since + 1) / wanted
    return next((step for step in _STEPS if step >= least), math.ceil(least / _STEPS[-1]) * _STEPS[-1])


_SECOND: Final = 1_000_000
_STEPS: Final[Sequence[int]] = [
    *(n * _SECOND for n in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200)),
    86_400 * _SECOND,
]
