"""A trace in time: when each span began and ended by one clock, its own time, and the path that decided the length.

**Critical path**: walk back from the end of the root. What finished last before now is what was waited for; the time
between belongs to the span itself. So every microsecond of the root belongs to exactly one span, and the times on the
path add up to the duration of the trace. A child counts only while its parent runs: what goes on afterwards, a
background task or a message, made nobody wait.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from clew.collector.trace.skew import correct_skew
from clew.collector.trace.tree import build_tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from clew.collector.trace.span import Span
    from clew.collector.trace.tree import Node


@dataclass(slots=True, eq=False)
class Timed:
    """A span in its place; times in microseconds since the epoch by the root's clock.

    A span without a timestamp has begin and end 0 and takes no part in what is said about time.
    """

    span: Span
    parent: Timed | None
    begin_us: int
    end_us: int
    skew_us: int
    children: list[Timed] = field(default_factory=list)

    @property
    def label(self) -> str:
        """Service and name, as a person would say it."""
        return f"{self.span.service or '?'} {self.span.name or 'unnamed'}"

    def within_parent(self) -> tuple[int, int]:
        """Return begin and end, cut to the parent's; an empty stretch if nothing is left."""
        if self.parent is None or not self.parent.end_us:
            return self.begin_us, self.end_us
        begin = min(max(self.begin_us, self.parent.begin_us), self.parent.end_us)
        return begin, max(begin, min(self.end_us, self.parent.end_us))


class Segment(NamedTuple):
    """A stretch of the critical path, in microseconds since the epoch, and whose own time it is."""

    timed: Timed
    begin_us: int
    end_us: int


def lay_out(spans: Sequence[Span]) -> list[Timed]:
    """Return the spans of one trace depth first, children in time order, by the root's clock; the first is the root.

    Without a root that arrived there are several without a parent.
    """
    tree = build_tree(spans)
    tree.adopt_lost()
    skew = correct_skew(tree)
    found: list[Timed] = []
    todo: list[tuple[Node, Timed | None]] = [(tree.root, None)]
    while todo:
        node, parent = todo.pop()
        timed = parent
        if node.span is not None:
            timed = _timed(node.span, parent, skew.get(id(node), 0))
            found.append(timed)
        todo.extend((child, timed) for child in reversed(node.children))
    return found


def _timed(span: Span, parent: Timed | None, skew_us: int) -> Timed:
    begin = span.timestamp - skew_us if span.timestamp else 0
    timed = Timed(span, parent, begin, begin + span.duration if begin else 0, skew_us)
    if parent is not None:
        parent.children.append(timed)
    return timed


def longest_root(timeline: Sequence[Timed]) -> Timed | None:
    """Return the span that stands for the whole trace: its root, or the longest of those without a parent."""
    roots = [timed for timed in timeline if timed.parent is None and timed.begin_us]
    return max(roots, key=lambda timed: timed.end_us - timed.begin_us, default=None)


def critical_path(timeline: Sequence[Timed]) -> list[Segment]:
    """Return what the length of the trace is made of, from its begin to its end, without gaps."""
    root = longest_root(timeline)
    if root is None:
        return []
    segments: list[Segment] = []
    # A span to walk back through, from when, back to when; what remains of it comes after what was called last.
    todo: list[tuple[Timed, int, int, list[Timed]]] = [(root, root.begin_us, root.end_us, _by_end(root))]
    while todo:
        timed, begin, now, earlier = todo.pop()
        called = _last_before(earlier, begin, now)
        if called is None:
            if now > begin:
                segments.append(Segment(timed, begin, now))
            continue
        child, child_begin, child_end = called
        if now > child_end:
            segments.append(Segment(timed, child_end, now))
        todo.append((timed, begin, child_begin, earlier))
        todo.append((child, child_begin, child_end, _by_end(child)))
    segments.sort(key=lambda segment: segment.begin_us)
    return segments


def _by_end(timed: Timed) -> list[Timed]:
    """Return the children that took part, the last to end at the end."""
    return sorted((child for child in timed.children if child.begin_us), key=lambda child: child.within_parent()[1])


def _last_before(earlier: list[Timed], begin: int, now: int) -> tuple[Timed, int, int] | None:
    """Take the child that was waited for last before ``now`` off the list, with its time cut to [begin, now]."""
    while earlier:
        child = earlier.pop()
        child_begin, child_end = child.within_parent()
        child_begin, child_end = max(child_begin, begin), min(child_end, now)
        if child_begin < child_end:
            return child, child_begin, child_end
    return None


def own_time_us(timed: Timed) -> int:
    """Return how long a span ran while none of its children did."""
    covered, reached = 0, timed.begin_us
    for begin, end in sorted(child.within_parent() for child in timed.children if child.begin_us):
        covered += max(0, end - max(begin, reached))
        reached = max(reached, end)
    return max(0, timed.end_us - timed.begin_us - covered)


def gaps(timed: Timed) -> list[tuple[int, int]]:
    """Return the stretches of a span with children in which none of them ran, the longest first."""
    found, reached = [], timed.begin_us
    for begin, end in sorted(child.within_parent() for child in timed.children if child.begin_us):
        if begin > reached:
            found.append((reached, begin))
        reached = max(reached, end)
    if found or reached > timed.begin_us:
        found.append((reached, timed.end_us))
    return sorted((gap for gap in found if gap[1] > gap[0]), key=lambda gap: gap[0] - gap[1])


def time_on_path(segments: Iterable[Segment]) -> dict[int, int]:
    """Return microseconds on the critical path by ``id`` of the timed span."""
    times: dict[int, int] = {}
    for timed, begin, end in segments:
        times[id(timed)] = times.get(id(timed), 0) + end - begin
    return times
