"""``/api/v1/compare``: two traces, or one against the usual of its operation."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Final

import msgspec

from clew.collector.api.answers import Refused
from clew.collector.api.v1 import asking
from clew.collector.api.v1.operation import Operation, Parameter
from clew.collector.api.v1.trace import MAX_VIEW_SPANS
from clew.collector.query.samples import traces_of
from clew.collector.trace.compare import Difference, compare
from clew.collector.trace.timeline import lay_out, longest_root

if TYPE_CHECKING:
    from clew.collector.api.v1.operation import Call
    from clew.collector.trace.span import Span

_DAY_US: Final = 86_400_000_000
_USUAL: Final = 50  # traces that stand for what is usual


class Compared(msgspec.Struct, rename="camel"):
    """Both lengths (us) and every place of the traces; ``usual``: of how many traces the left side is the mean."""

    left_us: float
    right_us: float
    differences: list[Difference]
    usual: int


def compared(call: Call) -> Compared:
    """Answer what is different on the right."""
    right = _trace(call, asking.trace_id(call.parameters.mandatory("right")))
    if call.parameters.text("left"):
        left, usual = [_trace(call, asking.trace_id(call.parameters.text("left")))], 0
    else:
        left = _usual(call, right)
        usual = len(left)
    found = compare(left, [right])
    return Compared(found.left_us, found.right_us, found.differences, usual)


def _trace(call: Call, trace_id: str) -> list[Span]:
    spans = list(islice(chain.from_iterable(call.query.trace(trace_id)), MAX_VIEW_SPANS))
    if not spans:
        raise Refused(404, f"There is no trace {trace_id}; /api/v1/traces lists the newest ones")
    return spans


def _usual(call: Call, spans: list[Span]) -> list[list[Span]]:
    """Return other traces that begin with the same operation, of a day before and after."""
    root = longest_root(lay_out(spans))
    if root is None or not root.span.service or not root.span.name:
        raise Refused(404, "This trace has no root with a service and a name, so nothing is usual for it")
    begin, own = root.span.timestamp, spans[0].trace_id
    window = max(0, begin - _DAY_US), begin + _DAY_US
    found = traces_of(call.reader, root.span.service, root.span.name, *window, _USUAL + 1, root=True)
    others = [other for other in call.reader.patience.each(found) if other[0].trace_id != own][:_USUAL]
    if not others:
        raise Refused(404, f"There is no other trace of {root.label}, a day before or after")
    return others


OPERATIONS: Final = (
    Operation(
        "/api/v1/compare",
        "What came, went, got slower or faster from the left trace to the right one; without left, from what is usual "
        "for the right one's operation. What a place explains adds up to the whole difference.",
        (
            Parameter("right", "Id of a trace.", required=True),
            Parameter("left", "Id of the trace to compare with; by default a sample of the same operation."),
        ),
        Compared,
        compared,
    ),
)
