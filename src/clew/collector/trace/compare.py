"""Two traces, or a trace and the usual of its operation, side by side: what came, went, got slower, got faster.

Spans are matched by their place: service, kind and name of the span and of all above it. What a place costs is its time
on the critical path, because those times add up to the length of the trace: so the differences of all places add up to
the difference of the lengths, and each explains its share of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from clew.collector.trace.timeline import critical_path, lay_out, longest_root, time_on_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from clew.collector.trace.span import Span
    from clew.collector.trace.timeline import Timed

_SAME_SHARE: Final = 0.1  # a place that changed less, and less than a hundredth of the trace, is called the same
_SAME_OF_TRACE: Final = 0.01


class Side(msgspec.Struct, rename="camel"):
    """A place in one set of traces, each a mean over them: how often, how long, how long on the critical path (us)."""

    count: float = 0
    duration_us: float = 0
    path_us: float = 0


class Difference(msgspec.Struct, rename="camel"):
    """One place on both sides. ``change`` is added, missing, slower, faster or same.

    ``explains_us``: how much of the difference between the lengths is its doing; over all places it adds up to all.
    """

    service: str
    kind: str
    name: str
    depth: int
    change: str
    left: Side
    right: Side
    explains_us: float


class Comparison(msgspec.Struct, rename="camel"):
    """Both lengths (us, means) and every place, each beneath its parent, in the order in which traces show them."""

    left_us: float
    right_us: float
    differences: list[Difference]


class _Place:
    """Service, kind and name of a span beneath another place; what stands there on both sides."""

    __slots__ = ("beneath", "depth", "sides", "step")

    def __init__(self, step: tuple[str, str, str], depth: int) -> None:
        self.step = step
        self.depth = depth
        self.beneath: dict[tuple[str, str, str], _Place] = {}
        self.sides: list[Side | None] = [None, None]

    def within(self, step: tuple[str, str, str]) -> _Place:
        """Return the place of this step beneath this one."""
        return self.beneath.setdefault(step, _Place(step, self.depth + 1))


def compare(left: Sequence[Sequence[Span]], right: Sequence[Sequence[Span]]) -> Comparison:
    """Hold traces against traces: one on each side, or many, whose means stand for the usual."""
    top = _Place(("", "", ""), -1)
    left_us, right_us = _fill(top, left, 0), _fill(top, right, 1)
    whole = max(left_us, right_us)
    return Comparison(left_us, right_us, [_difference(place, whole) for place in _depth_first(top)])


def _fill(top: _Place, traces: Sequence[Sequence[Span]], side: int) -> float:
    """Put the traces of one side into their places; return their mean length."""
    length = 0
    for spans in traces:
        timeline = lay_out(spans)
        root = longest_root(timeline)
        length += root.end_us - root.begin_us if root else 0
        times = time_on_path(critical_path(timeline))
        places: dict[int, _Place] = {}
        for timed in timeline:  # parents come before their children
            span = timed.span
            above = places[id(timed.parent)] if timed.parent is not None else top
            place = above.within((span.service or "", span.kind or "", span.name or ""))
            places[id(timed)] = place
            _add(place, side, timed, times.get(id(timed), 0), len(traces))
    return length / max(1, len(traces))


def _add(place: _Place, number: int, timed: Timed, path_us: int, traces: int) -> None:
    side = place.sides[number] = place.sides[number] or Side()
    side.count += 1 / traces
    side.duration_us += (timed.end_us - timed.begin_us) / traces
    side.path_us += path_us / traces


def _depth_first(top: _Place) -> Iterator[_Place]:
    todo = list(reversed(top.beneath.values()))
    while todo:
        place = todo.pop()
        yield place
        todo.extend(reversed(place.beneath.values()))


def _difference(place: _Place, whole: float) -> Difference:
    left, right = place.sides
    explains = (right.path_us if right else 0) - (left.path_us if left else 0)
    change = _change(left, right, explains, whole)
    return Difference(*place.step, place.depth, change, left or Side(), right or Side(), explains)


def _change(left: Side | None, right: Side | None, explains: float, whole: float) -> str:
    if left is None:
        return "added"
    if right is None:
        return "missing"
    small = _SAME_SHARE * max(left.path_us, right.path_us)
    if abs(explains) <= max(small, _SAME_OF_TRACE * whole):
        return "same"
    return "slower" if explains > 0 else "faster"
