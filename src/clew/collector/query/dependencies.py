"""A window of time -> who calls whom: counted in the engine, but for what only the linker can tell.

The statements are asked one after the other while spans arrive. Only what one statement answered counts: the names of
services are asked for last, for those that were counted.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from clew.collector.query import derived
from clew.collector.query.window import reach
from clew.collector.rows import make_link_spans, make_shape_spans
from clew.collector.trace.links import Link, Linker

if TYPE_CHECKING:
    from clew.collector.query.reader import Reader

SPANS_A_PASS: Final = 250_000  # takes the engine about 150 MB
MAX_SPANS_A_TRACE: Final = 200_000  # about 300 MB while it is linked
SPANS_A_SHAPE: Final = 100  # longer traces are linked one by one: the engine's work grows with the square
_TURN_S: Final = 0.1  # between two looks at whether anyone still waits
_long_traces = threading.Lock()  # one long trace in memory at a time, whoever asks

LONG_SPANS: Final = 50_000  # from so many on, links are read from what was derived


def is_long(reader: Reader, since: int, until: int) -> bool:
    """Say whether a window holds more spans than can be linked in a moment."""
    window = {"first": since // 60_000_000, "last": until // 60_000_000}
    return bool(reader.select("arrived", window)[0]["spans"] > LONG_SPANS)


def derived_links(reader: Reader, since: int, until: int) -> list[Link]:
    """Return who called whom in traces with a span in the window, which is taken in whole minutes."""
    found = derived.edges(reader, since, until)
    return [Link(edge.caller, edge.callee, edge.measured.calls, edge.measured.errors) for edge in found]


def links(reader: Reader, since: int, until: int) -> tuple[list[Link], int]:
    """Return who called whom in traces with a span in the window (microseconds, both ends included).

    The second value is how many traces are left out, for they have more than ``MAX_SPANS_A_TRACE`` spans. Links are
    drawn between whatever agrees in the lower 64 bits of its trace id, as Zipkin does.
    """
    # Other spans of a trace may lie anywhere; those right beside the window are read trace by trace as well.
    reached = reach(reader, since, until, around=0, loose=True)
    window = {"window": True, "since": since, "until": until, "max_spans": SPANS_A_SHAPE, **reached}
    spans = reader.select("link_volume", window)[0]["spans"]
    if not spans:
        return [], 0
    linker = Linker()
    counted: dict[tuple[int, int], tuple[int, int]] = {}
    number_of = 1 + spans // SPANS_A_PASS
    for number in range(number_of):
        _link_slice(reader, linker, counted, window | {"slices": number_of, "slice": number})
    left_out = 0
    for row in reader.select("link_long_traces", window):
        if row["spans"] > MAX_SPANS_A_TRACE:
            left_out += 1
        else:
            link_long_trace(reader, linker, window, row["id"])
    _name(reader, linker, counted, window)
    return linker.links(), left_out


def _link_slice(
    reader: Reader, linker: Linker, counted: dict[tuple[int, int], tuple[int, int]], parameters: dict[str, Any]
) -> None:
    odd_traces = False
    for row in reader.select("link_shapes", parameters | {"plain": True}):
        if row["caller"]:
            pair = row["caller"], row["callee"]
            calls, failures = counted.get(pair, (0, 0))
            counted[pair] = calls + row["calls"], failures + row["failures"]
        else:
            odd_traces = True
    if not odd_traces:
        return
    for row in reader.select("link_shapes", parameters | {"plain": False}):
        reader.patience.check()
        linker.put_trace(make_shape_spans(row["shape"]), times=row["calls"])


def link_long_trace(reader: Reader, linker: Linker, window: dict[str, Any], trace_id: str) -> None:
    """Link a trace by its lower id, reading no more of its spans than links need."""
    while not _long_traces.acquire(timeout=_TURN_S):
        reader.patience.check()
    try:
        rows = reader.select("link_spans", {**window, "trace_id": trace_id})
        linker.put_trace(make_link_spans(reader.patience.each(rows)), patience=reader.patience)
    finally:
        _long_traces.release()


def _name(
    reader: Reader, linker: Linker, counted: dict[tuple[int, int], tuple[int, int]], window: dict[str, Any]
) -> None:
    """Give the services their names; one that is gone by now (retention) is left out."""
    if not counted:
        return
    names = {row["hash"]: row["name"] for row in reader.select("link_names", window)}
    for (caller, callee), (calls, failures) in counted.items():
        if caller in names and callee in names:
            linker.put_link(names[caller], names[callee], calls, failures)
