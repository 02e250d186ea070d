"""Services, operations and who calls whom, with their numbers and the change against the period before.

Read from what is derived by the minute, so a window is taken in whole minutes, and percentiles are within 2.2 %.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from clew.collector.api.v1 import asking
from clew.collector.api.v1.operation import Operation, Parameter
from clew.collector.query import RateFilter
from clew.collector.trace.sketch import merged, quantile

if TYPE_CHECKING:
    from collections.abc import Iterable

    from clew.collector.api.v1.operation import Call
    from clew.collector.query.derived import Measured

_MINUTE_US: Final = 60_000_000
_ENTRIES: Final = ("SERVER", "CONSUMER")  # where a service is called
_MAX_LINES: Final = 10_000


class Measures(msgspec.Struct, rename="camel"):
    """Calls, failures, calls a second, the share that failed (0 to 1), percentiles (us); a slow trace, a failed one."""

    calls: int
    errors: int
    per_second: float
    error_rate: float
    p50_us: float | None
    p95_us: float | None
    p99_us: float | None
    slow_trace_id: str | None
    failed_trace_id: str | None


class Change(msgspec.Struct, rename="camel"):
    """Now against before: 0.1 is a tenth more; null where there was nothing. ``error_rate`` is the difference."""

    per_second: float | None
    error_rate: float | None
    p50_us: float | None
    p95_us: float | None
    p99_us: float | None


class Line(msgspec.Struct, rename="camel", kw_only=True):
    """Numbers of the window, of the one as long before it, and the change."""

    now: Measures
    before: Measures
    change: Change


class ServiceLine(Line, rename="camel", kw_only=True):
    """A service: the calls that it answers (kinds SERVER and CONSUMER), or all its spans where it answers none."""

    service: str
    spans: int


class OperationLine(Line, rename="camel", kw_only=True):
    """An operation: a service's spans of one name and kind."""

    service: str
    name: str
    kind: str


class EdgeLine(Line, rename="camel", kw_only=True):
    """Calls of one service to another."""

    caller: str
    callee: str


class Services(msgspec.Struct, rename="camel"):
    """The services that were there in the window, by name."""

    since: int
    until: int
    services: list[ServiceLine]


class Operations(msgspec.Struct, rename="camel"):
    """Operations, those that took most time in all first; ``more``: there are others."""

    since: int
    until: int
    operations: list[OperationLine]
    more: bool


class Map(msgspec.Struct, rename="camel"):
    """Who calls whom, by name."""

    since: int
    until: int
    edges: list[EdgeLine]


class Periods:
    """The window of a question in whole minutes, and the one as long before it."""

    def __init__(self, call: Call) -> None:
        since, until = asking.short_window(call)
        self.now = since // _MINUTE_US * _MINUTE_US, until // _MINUTE_US * _MINUTE_US + _MINUTE_US - 1
        length = self.now[1] - self.now[0] + 1
        self.before = self.now[0] - length, self.now[0] - 1
        self.seconds = max(1.0, (min(self.now[1], asking.now_us()) - self.now[0]) / 1e6)
        self.seconds_before = length / 1e6

    def compared(self, now: Iterable[Measured], before: Iterable[Measured]) -> tuple[Measures, Measures, Change]:
        """Return both, and the change."""
        first, last = measures(before, self.seconds_before), measures(now, self.seconds)
        return last, first, _change(last, first)


def measures(measured: Iterable[Measured], seconds: float) -> Measures:
    """Return the numbers of what was measured, over so many seconds."""
    parts = list(measured)
    calls, errors = sum(part.calls for part in parts), sum(part.errors for part in parts)
    sketch = merged(part.durations for part in parts)
    p50, p95, p99 = (quantile(sketch, share) if sketch else None for share in (0.5, 0.95, 0.99))
    slow = max(parts, key=lambda part: part.slow_us, default=None)
    failed = next((part.failed_id for part in parts if part.failed_id), None)
    slow_id = slow.slow_id if slow else ""
    rate = errors / calls if calls else 0.0
    return Measures(calls, errors, calls / seconds, rate, p50, p95, p99, slow_id or None, failed)


def _change(now: Measures, before: Measures) -> Change:
    return Change(
        _ratio(now.per_second, before.per_second),
        now.error_rate - before.error_rate if before.calls and now.calls else None,
        _ratio(now.p50_us, before.p50_us),
        _ratio(now.p95_us, before.p95_us),
        _ratio(now.p99_us, before.p99_us),
    )


def _ratio(now: float | None, before: float | None) -> float | None:
    return now / before - 1 if before and now is not None else None


def _by_key(
    now: Iterable[tuple[tuple[str, ...], Measured]], before: Iterable[tuple[tuple[str, ...], Measured]]
) -> dict[tuple[str, ...], tuple[list[Measured], list[Measured]]]:
    """Group what was measured in both periods; what is only in the one before has nothing now."""
    found: dict[tuple[str, ...], tuple[list[Measured], list[Measured]]] = {}
    for place, entries in enumerate((now, before)):
        for key, measured in entries:
            found.setdefault(key, ([], []))[place].append(measured)
    return found


def services(call: Call) -> Services:
    """Answer with the services."""
    periods = Periods(call)
    asked = {}
    for kinds in (_ENTRIES, ()):
        rates = [call.query.rates(*period, RateFilter(kinds=list(kinds))) for period in (periods.now, periods.before)]
        asked[kinds] = _by_key(*([((rate.service,), rate.measured) for rate in found] for found in rates))
    lines = []
    for (service,), everything in sorted(asked[()].items()):
        spans = sum(part.calls for part in everything[0])
        now, before, change = periods.compared(*asked[_ENTRIES].get((service,), everything))
        lines.append(ServiceLine(now=now, before=before, change=change, service=service, spans=spans))
    return Services(*periods.now, lines)


def operations(call: Call) -> Operations:
    """Answer with the operations of a service, or of all."""
    periods = Periods(call)
    limit = asking.limit(call.parameters, 100, _MAX_LINES)
    wanted = RateFilter(service=call.parameters.text("service").lower(), by_operation=True)
    rates = [call.query.rates(*period, wanted) for period in (periods.now, periods.before)]
    grouped = _by_key(*([((r.service, r.name, r.kind), r.measured) for r in found] for found in rates))
    ranked = sorted(grouped.items(), key=lambda entry: (-sum(part.duration_us for part in entry[1][0]), entry[0]))
    lines = []
    for (service, name, kind), measured in ranked[:limit]:
        now, before, change = periods.compared(*measured)
        lines.append(OperationLine(now=now, before=before, change=change, service=service, name=name, kind=kind))
    return Operations(*periods.now, lines, len(ranked) > limit)


def service_map(call: Call) -> Map:
    """Answer with who calls whom."""
    periods = Periods(call)
    service = call.parameters.text("service").lower()
    edges = [call.query.edges(*period, service) for period in (periods.now, periods.before)]
    grouped = _by_key(*([((e.caller, e.callee), e.measured) for e in found] for found in edges))
    lines = []
    for (caller, callee), measured in sorted(grouped.items()):
        now, before, change = periods.compared(*measured)
        lines.append(EdgeLine(now=now, before=before, change=change, caller=caller, callee=callee))
    return Map(*periods.now, lines)


_SERVICE: Final = Parameter("service", "Only of this service.")

OPERATIONS: Final = (
    Operation(
        "/api/v1/services",
        "Services with rate, errors, percentiles, and the change against the period before. The window is taken in "
        "whole minutes, here and below.",
        asking.WINDOW,
        Services,
        services,
    ),
    Operation(
        "/api/v1/operations",
        "Operations with the same, those that took most time in all first.",
        (_SERVICE, *asking.WINDOW, asking.limit_parameter(100, _MAX_LINES)),
        Operations,
        operations,
    ),
    Operation(
        "/api/v1/map",
        "Who calls whom, with the same for each pair.",
        (Parameter("service", "Only where this service has a part."), *asking.WINDOW),
        Map,
        service_map,
    ),
)
