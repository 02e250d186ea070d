"""Minutes -> who called whom in the traces that begin in them; counted as ``query.dependencies`` does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from clew.collector.derive.minutes import Minute, new_attempt
from clew.collector.query.dependencies import MAX_SPANS_A_TRACE, SPANS_A_PASS, SPANS_A_SHAPE, link_long_trace
from clew.collector.query.window import reach
from clew.collector.rows import make_shape_spans
from clew.collector.trace import sketch
from clew.collector.trace.links import Linker

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from clew.collector.query.reader import Reader
    from clew.collector.store import SpanStore

_MINUTE_US: Final = 60_000_000
_NO_ID: Final = "0" * 32
_Stretch = tuple[int, int]  # the minutes in which a trace begins and ends
_Edge = tuple[_Stretch, str, str]  # ... who calls, who is called


@dataclass
class _Calls:
    """What is known of one edge; see ``schema_links.sql``."""

    calls: int = 0
    errors: int = 0
    duration: int = 0
    durations: sketch.Sketch = field(default_factory=dict)
    slowest: tuple[int, str] = (0, _NO_ID)
    failed_id: str = _NO_ID

    def add(self, row: dict[str, Any]) -> None:
        """Add a row of ``link_shapes.sql``."""
        self.calls += row["calls"]
        self.errors += row["failures"]
        self.duration += row["duration_us"]
        self.durations = sketch.merged((self.durations, dict(zip(row["buckets"], row["counts"], strict=True))))
        self.slowest = max(self.slowest, (row["slowest"][0], row["slow_id"]))
        self.failed_id = max(self.failed_id, row["failed_id"])


def homes_of(reader: Reader, numbers: Collection[int]) -> set[int]:
    """Return the minutes in which traces begin, or began before, that have a span in these minutes."""
    reached = _reach(reader, numbers)
    return {row["home"] for row in reader.select("trace_homes", {**reached, "minutes": sorted(numbers)})}


def derive_links(store: SpanStore, reader: Reader, minutes: Sequence[Minute]) -> None:
    """Make the links of these minutes."""
    if not minutes:
        return
    numbers = [minute.number for minute in minutes]
    given = {**_reach(reader, numbers), "homes": numbers, "max_spans": SPANS_A_SHAPE}
    attempt = new_attempt(minutes)
    edges: dict[_Edge, _Calls] = {}
    linkers: dict[_Stretch, Linker] = {}
    passes = 1 + sum(minute.spans for minute in minutes) // SPANS_A_PASS
    for number in range(passes):
        _put_slice(reader, given | {"slices": passes, "slice": number}, edges, linkers)
    for row in reader.select("link_long_traces", given):
        if row["spans"] <= MAX_SPANS_A_TRACE:
            link_long_trace(reader, linkers.setdefault((row["home"], row["last"]), Linker()), given, row["id"])
    _put_linked(edges, linkers)
    totals = [_total(minute) for minute in minutes]
    rows = totals + [_row(edge, calls) for edge, calls in edges.items()]
    store.put("links_in", b"[%b]" % b",".join(msgspec.json.encode(row | {"attempt": attempt}) for row in rows))


def _reach(reader: Reader, numbers: Collection[int]) -> dict[str, Any]:
    return reach(reader, min(numbers) * _MINUTE_US, max(numbers) * _MINUTE_US, around=0, loose=True)


def _put_slice(
    reader: Reader, given: dict[str, Any], edges: dict[_Edge, _Calls], linkers: dict[_Stretch, Linker]
) -> None:
    """Add the links of plain traces, which are counted in the engine, and put the other traces into linkers."""
    found = reader.select("link_shapes", given | {"plain": True})
    if any(not row["caller"] for row in found):
        for row in reader.select("link_shapes", given | {"plain": False}):
            linker = linkers.setdefault((row["home"], row["last"]), Linker())
            linker.put_trace(make_shape_spans(row["shape"]), times=row["calls"])
    names = {row["hash"]: row["name"] for row in reader.select("link_names", given)} if found else {}
    for row in found:
        if row["caller"] in names and row["callee"] in names:
            edge = (row["home"], row["last"]), names[row["caller"]], names[row["callee"]]
            edges.setdefault(edge, _Calls()).add(row)


def _put_linked(edges: dict[_Edge, _Calls], linkers: dict[_Stretch, Linker]) -> None:
    for stretch, linker in linkers.items():
        for link in linker.links():
            calls = edges.setdefault((stretch, link.parent, link.child), _Calls())
            calls.calls += link.call_count
            calls.errors += link.error_count


def _total(minute: Minute) -> dict[str, Any]:
    """Make the row that says which derivation counts."""
    seconds = minute.number * 60
    return {"step": 60, "start": seconds, "last": seconds, "seen": minute.spans, "covered": minute.covered}


def _row(edge: _Edge, calls: _Calls) -> dict[str, Any]:
    (home, last), caller, callee = edge
    return {
        "step": 60,
        "start": home * 60,
        "last": last * 60,
        "caller": caller,
        "callee": callee,
        "calls": calls.calls,
        "errors": calls.errors,
        "duration": calls.duration,
        "buckets": list(calls.durations),
        "counts": list(calls.durations.values()),
        "slow_us": calls.slowest[0],
        "slow_id": calls.slowest[1],
        "failed_id": calls.failed_id,
    }
