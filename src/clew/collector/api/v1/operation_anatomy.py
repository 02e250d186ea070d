"""``/api/v1/operation``: one operation, its callers and callees, and where its time goes; by a sample of its traces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from clew.collector.api.v1 import asking
from clew.collector.api.v1.fleet import Change, Measures, Periods
from clew.collector.api.v1.operation import Operation, Parameter
from clew.collector.query import RateFilter
from clew.collector.query.samples import traces_of
from clew.collector.trace.operation import Neighbour, Share, dissect

if TYPE_CHECKING:
    from clew.collector.api.v1.operation import Call

_MAX_TRACES: Final = 500


class OperationView(msgspec.Struct, rename="camel", kw_only=True):
    """An operation: its numbers in the window and before it; what its calls in a sample of ``traces`` were like.

    ``callers`` and ``callees``: so many for each call, and how long each takes. ``time``: whose own time its calls
    are made of. A caller "" means that nobody called.
    """

    service: str
    name: str
    since: int
    until: int
    now: Measures
    before: Measures
    change: Change
    traces: int
    calls: int
    mean_us: float
    callers: list[Neighbour]
    callees: list[Neighbour]
    time: list[Share]


def operation(call: Call) -> OperationView:
    """Answer with one operation."""
    service, name = (call.parameters.mandatory(which).lower() for which in ("service", "name"))
    limit = asking.limit(call.parameters, 200, _MAX_TRACES)
    periods = Periods(call)
    wanted = RateFilter(service=service, name=name, by_operation=True)
    rates = ([rate.measured for rate in call.query.rates(*p, wanted)] for p in (periods.now, periods.before))
    now, before, change = periods.compared(*rates)
    sampled = traces_of(call.reader, service, name, *periods.now, limit)
    anatomy = dissect(call.reader.patience.each(sampled), service, name)
    return OperationView(
        service=service,
        name=name,
        since=periods.now[0],
        until=periods.now[1],
        now=now,
        before=before,
        change=change,
        **msgspec.structs.asdict(anatomy),
    )


OPERATIONS: Final = (
    Operation(
        "/api/v1/operation",
        "One operation: its numbers, who calls it, what it calls, and where its time goes, by a sample of its traces "
        "that is spread over the window.",
        (
            Parameter("service", "The service.", required=True),
            Parameter("name", "The name of its spans.", required=True),
            *asking.WINDOW,
            asking.limit_parameter(200, _MAX_TRACES),
        ),
        OperationView,
        operation,
    ),
)
