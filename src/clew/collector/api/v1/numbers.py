"""Numbers for any search: over time, by duration, both, by value, and what is different about a selection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from clew.collector.api.v1 import asking
from clew.collector.api.v1.operation import Operation, Parameter
from clew.collector.query import numbers
from clew.collector.query.numbers import Box, Bucket, Cell, Difference, Numbers, Point, Value
from clew.collector.search.tree import FIELDS, Field

if TYPE_CHECKING:
    from clew.collector.api.v1.operation import Call
    from clew.collector.search import Condition

_MAX_STEPS: Final = 1_000
_OF: Final = ("spans", "traces")
_MAX_US: Final = 2**63 - 1

STEP: Final = Parameter("step", "Length of a step, microseconds; by default about 60 steps.", "integer")
_SEARCHED: Final = (
    asking.SEARCH,
    *asking.WINDOW,
    Parameter("of", "What is counted; by default what the search speaks of.", one_of=_OF),
)


class Window(msgspec.Struct, rename="camel", kw_only=True):
    """The window that was asked for, and what an answer lacks."""

    since: int
    until: int
    incomplete: str | None


class Series(Window, rename="camel", kw_only=True):
    """Numbers over time; ``total`` of the whole window."""

    step_us: int
    total: Numbers
    points: list[Point]


class Histogram(Window, rename="camel", kw_only=True):
    """How many took how long; stretches without any are left out."""

    buckets: list[Bucket]


class Heatmap(Window, rename="camel", kw_only=True):
    """Time and durations; cells without any are left out."""

    step_us: int
    cells: list[Cell]


class TopValues(Window, rename="camel", kw_only=True):
    """The most frequent values of ``key``; ``having`` of all ``spans`` have it, with about ``different`` values."""

    key: str
    values: list[Value]
    spans: int
    having: int
    different: int


class Differences(Window, rename="camel", kw_only=True):
    """How many spans are in the selection and how many not, and what tells them apart, the most telling first."""

    inside: int
    outside: int
    differences: list[Difference]


def series(call: Call) -> Series:
    """Answer with numbers over time."""
    chosen, window = _chosen(call)
    step = read_step(call, window.since, window.until)
    total, points = numbers.series(call.reader, chosen, step)
    return Series(**msgspec.structs.asdict(window), step_us=step, total=total, points=points)


def histogram(call: Call) -> Histogram:
    """Answer with how many took how long."""
    chosen, window = _chosen(call)
    return Histogram(**msgspec.structs.asdict(window), buckets=numbers.durations(call.reader, chosen))


def heatmap(call: Call) -> Heatmap:
    """Answer with time and durations."""
    chosen, window = _chosen(call)
    step = read_step(call, window.since, window.until)
    return Heatmap(**msgspec.structs.asdict(window), step_us=step, cells=numbers.heat(call.reader, chosen, step))


def values(call: Call) -> TopValues:
    """Answer with the most frequent values of a field."""
    key = call.parameters.text("key")
    if not key:
        raise ValueError("key is a field such as service, or the key of a tag")
    limit = asking.limit(call.parameters, 20, 1_000)
    chosen, window = _chosen(call)
    found = numbers.values(call.reader, chosen, Field(key, key in FIELDS), limit)
    return TopValues(**msgspec.structs.asdict(window), **msgspec.structs.asdict(found))


def difference(call: Call) -> Differences:
    """Answer with what is different about a selection."""
    selected = _selected(call)
    limit = asking.limit(call.parameters, 40, 1_000)
    chosen, window = _chosen(call)
    inside, outside, found = numbers.difference(call.reader, chosen, selected, limit)
    return Differences(**msgspec.structs.asdict(window), inside=inside, outside=outside, differences=found)


def _selected(call: Call) -> Condition | Box:
    if call.parameters.text("selected"):
        return asking.condition(call.parameters, "selected")
    names = ("from", "to", "min_us", "max_us")
    box = {name: asking.moment(call.parameters, name) for name in names}
    if all(value is None for value in box.values()):
        raise ValueError("selected is a search, or from, to, min_us and max_us are a box of time and durations")
    return Box(box["from"] or 0, _or_all(box["to"]), box["min_us"] or 0, _or_all(box["max_us"]))


def _or_all(value: int | None) -> int:
    return _MAX_US if value is None else value


def _chosen(call: Call) -> tuple[numbers.Chosen, Window]:
    of = call.parameters.text("of")
    if of and of not in _OF:
        raise ValueError(f"of is one of {', '.join(_OF)}, not {of!r}")
    query = asking.search(call.parameters)
    since, until = asking.short_window(call)
    chosen = numbers.choose(call.reader, query, since, until, of)
    return chosen, Window(since=since, until=until, incomplete=chosen.lacking or None)


def read_step(call: Call, since: int, until: int) -> int:
    """Read ``step``."""
    step = asking.moment(call.parameters, "step") or numbers.steps(since, until, 60)
    if (until - since) // step >= _MAX_STEPS:
        raise ValueError(f"step is too short: there would be more than {_MAX_STEPS} steps")
    return step


OPERATIONS: Final = (
    Operation(
        "/api/v1/series",
        "How many, how often, how many failed, and percentiles over time, for any search.",
        (*_SEARCHED, STEP),
        Series,
        series,
    ),
    Operation("/api/v1/histogram", "How many took how long, for any search.", _SEARCHED, Histogram, histogram),
    Operation(
        "/api/v1/heatmap",
        "How many took how long when, for any search, with some of the traces of each cell.",
        (*_SEARCHED, STEP),
        Heatmap,
        heatmap,
    ),
    Operation(
        "/api/v1/values",
        "The most frequent values of a field or tag among what a search finds, with the numbers of each.",
        (*_SEARCHED, Parameter("key", "A field or a tag's key.", required=True), asking.limit_parameter(20, 1_000)),
        TopValues,
        values,
    ),
    Operation(
        "/api/v1/difference",
        "What is different between a selection of what a search finds and the rest: for each tag and value its share "
        "inside and outside. The selection is a second search, or a box of time and durations.",
        (
            *_SEARCHED,
            Parameter("selected", "What one span of the selection is like, a search."),
            Parameter("from", "Begin of the box, microseconds since 1970.", "integer"),
            Parameter("to", "End of the box.", "integer"),
            Parameter("min_us", "Least duration in the box.", "integer"),
            Parameter("max_us", "Greatest duration in the box.", "integer"),
            asking.limit_parameter(40, 1_000),
        ),
        Differences,
        difference,
    ),
)
