"""A search -> log lines, the newest first, page by page; how many over time; what stands around one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from clew.collector.query.window import MAX_TIME_US, Slices, reach
from clew.collector.rows import make_record
from clew.collector.search.lines import compile_lines
from clew.collector.search.sql import Compiled

if TYPE_CHECKING:
    from clew.collector.query.reader import Reader
    from clew.collector.search.tree import Condition

_HOURS_US: Final = 6 * 3_600_000_000  # around a line: what is further away is no context


class Place(NamedTuple):
    """Behind which line to go on: its time, and what tells it from others of that time."""

    timestamp: int
    digest: int


class Lines(NamedTuple):
    """Records in time order, and where older ones go on (None: there are none)."""

    records: list[dict[str, Any]]
    place: Place | None


def find(reader: Reader, condition: Condition, since: int, until: int, limit: int, after: Place | None = None) -> Lines:
    """Return the newest lines of a window (microseconds, both ends included) that are as the condition says."""
    slices = Slices(since, min(until, after.timestamp) if after else until)
    rows: list[dict[str, Any]] = []
    while len(rows) <= limit and slices:
        begin, end = slices.next()
        wanted = limit + 1 - len(rows)
        given = _given(reader, condition, begin, end)
        if after:
            given.parameters.update(after=True, after_us=after.timestamp, after_digest=after.digest)
        found = reader.select("search_logs", {**given.parameters, "limit": wanted}, given.parts)
        rows += found
        slices.done()
    more = len(rows) > limit
    rows = rows[:limit]
    place = Place(rows[-1]["timestamp"], rows[-1]["digest"]) if more else None
    return Lines(list(map(make_record, reversed(rows))), place)


class _Given(NamedTuple):
    parameters: dict[str, Any]
    parts: dict[str, str]


def _given(reader: Reader, condition: Condition, since: int, until: int) -> _Given:
    into = Compiled()
    wanted = compile_lines(condition, into)
    window = {"since": since, "until": until}
    near = reach(reader, since, until) if "$REACH" in wanted else {}
    return _Given({**window, **near, **into.parameters}, {"WANTED": wanted})


def count(reader: Reader, condition: Condition, since: int, until: int, step: int) -> dict[int, dict[str, int]]:
    """Return how many lines of each level there are, by the number of the step (microseconds) in the window."""
    given = _given(reader, condition, since, until)
    counts: dict[int, dict[str, int]] = {}
    for row in reader.select("count_logs", {**given.parameters, "step": step}, given.parts):
        counts.setdefault(row["place"], {})[row["its_level"]] = row["count"]
    return counts


def around(
    reader: Reader, condition: Condition, service: str, moment: int, before: int, after: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the lines before a moment and those from it on, each in time order; ``condition``: on those before."""
    earlier = (
        find(reader, condition, max(0, moment - _HOURS_US), moment - 1, before).records if before and moment else []
    )
    given = {"since": moment, "until": min(moment + _HOURS_US, MAX_TIME_US), "service": service, "limit": after}
    return earlier, list(map(make_record, reader.select("logs_after", given)))
