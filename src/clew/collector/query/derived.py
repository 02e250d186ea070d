"""Rates and links of a window of time, from what was derived: the coarsest stretches that fit, the finest at its ends.

The window is taken in whole minutes. Where minutes are gone already (after two days) it is taken in ten minutes, and
after two weeks in hours. What arrived in the last moments may not be in it: see :mod:`clew.collector.derive`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from clew.collector.rows import short_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clew.collector.query.reader import Reader

Table = Literal["rates", "links"]

STEPS_S: Final = (3_600, 600, 60)
LAST_S: Final = 4_294_967_295  # the end of DateTime, 2106
MINUTES_S: Final = 2 * 86_400  # how long minutes are kept; as clew.collector.store.schema says
TEN_MINUTES_S: Final = 14 * 86_400
_NO_ID: Final = "0" * 32


class Measured(NamedTuple):
    """Calls in a stretch of time that begins at ``begin`` (seconds; 0: the whole window).

    ``durations`` is a histogram (:mod:`clew.collector.trace.sketch`) of those that had a duration, ``duration_us``
    their sum. ``slow_id`` is the trace of the slowest, ``failed_id`` one of those that failed; ``""`` if there is none.
    """

    begin: int
    calls: int
    errors: int
    duration_us: int
    durations: dict[int, int]
    slow_us: int
    slow_id: str
    failed_id: str


class Rate(NamedTuple):
    """What the spans of a service, or of one of its operations, were like. ``name`` and ``kind`` are ``""`` for all."""

    service: str
    name: str
    kind: str
    measured: Measured


class Edge(NamedTuple):
    """What the calls of one service to another were like."""

    caller: str
    callee: str
    measured: Measured


class RateFilter(NamedTuple):
    """Which rates: of a service, an operation, kinds of spans; ``""`` and nothing are no condition.

    ``every`` cuts time in stretches of so many seconds (a multiple of 60), 0 does not. ``by_operation`` tells
    operations apart.
    """

    service: str = ""
    name: str = ""
    kinds: Sequence[str] = ()
    every: int = 0
    by_operation: bool = False


def rates(reader: Reader, since: int, until: int, wanted: RateFilter) -> list[Rate]:
    """Return what was measured in the window (microseconds, both ends included), by time, service and operation."""
    rows = _select(reader, "rates", since, until, wanted.every, wanted._asdict())
    return [Rate(row["service"], row.get("name", ""), row.get("kind", ""), _measured(row)) for row in rows]


def edges(reader: Reader, since: int, until: int, service: str = "", every: int = 0) -> list[Edge]:
    """Return who called whom in traces with a span in the window; of one service, those it has a part in."""
    rows = _select(reader, "links", since, until, every, {"service": service})
    return [Edge(row["caller"], row["callee"], _measured(row)) for row in rows]


def _select(
    reader: Reader, table: Table, since: int, until: int, every: int, conditions: Mapping[str, Any]
) -> list[dict[str, Any]]:
    now = int(time.time())
    first, last = _whole(since, now)[0], _whole(until, now)[1] - 60
    units = _units(reader, table, first, last, now)
    steps = [step for step in STEPS_S if not every or every % step == 0]
    chosen = _cover(units, first, last, steps) + [key for key in units if key[1] < first]
    if not chosen:
        return []
    given = {
        "first": first,
        "last": last,
        "steps": [step for step, _ in chosen],
        "starts": [start for _, start in chosen],
        "attempts": [units[key] for key in chosen],
        "every": every,
        "whole": not every,
    }
    return reader.select(f"read_{table}", {**conditions, **given})


def _whole(moment: int, now: int) -> tuple[int, int]:
    """Return both ends of the minute, ten minutes or hour in which a moment lies, by what there is of that age."""
    second = min(moment // 1_000_000, LAST_S)
    step = 60 if second > now - MINUTES_S else 600 if second > now - TEN_MINUTES_S else 3_600
    return second // step * step, second // step * step + step


def _units(reader: Reader, table: Table, first: int, last: int, now: int) -> dict[tuple[int, int], int]:
    """Return the attempt that counts of each (step, begin); coarse ones only if no minute in them is newer."""
    given = {
        table: True,
        "steps": list(STEPS_S),
        "first": first,
        "last": last,
        "recent": max(0, now - MINUTES_S),
        "straddling": table == "links",
    }
    units = {(row["step"], row["begin"]): row["newest"] for row in reader.select("derived_units", given)}
    stale = {
        (step, start // step * step)
        for (finest, start), attempt in units.items()
        for step in STEPS_S
        if finest == 60 and attempt > units.get((step, start // step * step), attempt)
    }
    return {key: attempt for key, attempt in units.items() if key not in stale}


def _cover(units: Mapping[tuple[int, int], int], first: int, last: int, steps: Sequence[int]) -> list[tuple[int, int]]:
    """Cover the window with units, each as coarse as fits, none overlapping another."""
    chosen: list[tuple[int, int]] = []
    second = first
    while second <= last:
        fitting = (step for step in steps if second % step == 0 and second + step <= last + 60)
        found = next((step for step in fitting if (step, second) in units), 0)
        if found:
            chosen.append((found, second))
        second += found or 60
    return chosen


def _measured(row: dict[str, Any]) -> Measured:
    return Measured(
        begin=row["begin"],
        calls=row["calls"],
        errors=row["errors"],
        duration_us=row["duration_us"],
        durations=dict(zip(row["buckets"], row["counts"], strict=True)),
        slow_us=row["slow_us"],
        slow_id="" if row["slow_id"] == _NO_ID else short_id(row["slow_id"]),
        failed_id="" if row["failed_id"] == _NO_ID else short_id(row["failed_id"]),
    )
