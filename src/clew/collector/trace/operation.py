"""Many traces -> how one operation is called, what it calls, and where its time goes. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from clew.collector.trace.timeline import Timed, lay_out, own_time_us

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from clew.collector.trace.span import Span


class Neighbour(msgspec.Struct, rename="camel"):
    """An operation above or below: how often a call of the operation looked at, and how long on average (us)."""

    service: str
    name: str
    kind: str
    per_call: float
    mean_us: float


class Share(msgspec.Struct, rename="camel"):
    """Where time goes: time of an operation's own on average in a call (us), and its share of all that time."""

    service: str
    name: str
    kind: str
    per_call: float
    self_us: float
    share: float


class Anatomy(msgspec.Struct, rename="camel"):
    """What ``calls`` of an operation in ``traces`` traces were like. Callers "" are where nobody called."""

    traces: int
    calls: int
    mean_us: float
    callers: list[Neighbour]
    callees: list[Neighbour]
    time: list[Share]


_Key = tuple[str, str, str]


def dissect(traces: Iterable[Sequence[Span]], service: str, name: str) -> Anatomy:
    """Look at every call of an operation; beneath a call, what lies beneath another call of it belongs to that one."""
    sums = _Sums()
    number = 0
    for spans in traces:
        number += 1
        calls = [t for t in lay_out(spans) if t.span.service == service and t.span.name == name]
        for timed in calls:
            sums.add(timed, {id(other) for other in calls})
    return sums.anatomy(number)


class _Sums:
    """Counts and microseconds by operation."""

    def __init__(self) -> None:
        self._calls = 0
        self._us = 0
        self._callers: dict[_Key, list[int]] = {}
        self._callees: dict[_Key, list[int]] = {}
        self._time: dict[_Key, list[int]] = {}

    def add(self, timed: Timed, calls: set[int]) -> None:
        """Count one call."""
        self._calls += 1
        self._us += timed.end_us - timed.begin_us
        above = timed.parent
        _count(self._callers, _key(above), above.end_us - above.begin_us if above else 0)
        for child in timed.children:
            _count(self._callees, _key(child), child.end_us - child.begin_us)
        todo = [timed]
        while todo:
            inner = todo.pop()
            _count(self._time, _key(inner), own_time_us(inner))
            todo += [child for child in inner.children if id(child) not in calls]

    def anatomy(self, traces: int) -> Anatomy:
        """Return the means, the largest first."""
        calls = max(1, self._calls)
        whole = sum(us for _, us in self._time.values()) or 1
        shares = [Share(*key, n / calls, us / calls, us / whole) for key, (n, us) in self._time.items()]
        return Anatomy(
            traces,
            self._calls,
            self._us / calls,
            _neighbours(self._callers, calls),
            _neighbours(self._callees, calls),
            sorted(shares, key=lambda share: -share.self_us),
        )


def _key(timed: Timed | None) -> _Key:
    return (timed.span.service or "", timed.span.name or "", timed.span.kind or "") if timed else ("", "", "")


def _count(sums: dict[_Key, list[int]], key: _Key, us: int) -> None:
    entry = sums.setdefault(key, [0, 0])
    entry[0] += 1
    entry[1] += us


def _neighbours(sums: dict[_Key, list[int]], calls: int) -> list[Neighbour]:
    found = [Neighbour(*key, n / calls, us / n) for key, (n, us) in sums.items()]
    return sorted(found, key=lambda neighbour: -neighbour.per_call * neighbour.mean_us)
