"""``/api/v1/traces/{id}``: one trace as a person looks at it."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

import msgspec

from clew.collector.api.answers import INCOMPLETE, Refused, json_answer
from clew.collector.api.v1 import asking
from clew.collector.api.v1.operation import Operation, Parameter
from clew.collector.query.numbers import everything
from clew.collector.query.troubles import Loss, losses
from clew.collector.trace.findings import Finding
from clew.collector.trace.span import Endpoint
from clew.collector.trace.view import view_trace

if TYPE_CHECKING:
    from starlette.responses import Response

    from clew.collector.api.v1.operation import Call

_TOLD_US: Final = 60_000_000  # after the end of a trace; processes tell with their next spans
_MAX_LOSSES: Final = 100
MAX_VIEW_SPANS = 20_000  # of one trace in one answer; a person reads no more


class Note(msgspec.Struct):
    """An annotation: when, and what happened."""

    timestamp: int
    value: str


class SpanRow(msgspec.Struct, rename="camel", omit_defaults=True):
    """A span in its place; ``timestamp`` by the root's clock, ``raw_timestamp`` as reported, ``skew_us`` between them.

    ``self_us``: how long it ran while none of its children did; ``path_us``: its time on the critical path.
    """

    trace_id: str
    id: str
    depth: int
    timestamp: int
    raw_timestamp: int
    duration: int
    skew_us: int
    self_us: int
    path_us: int
    orphan: bool
    annotations: list[Note]
    tags: dict[str, str]
    parent_id: str = ""
    kind: str = ""
    name: str = ""
    local_endpoint: Endpoint | None = None
    remote_endpoint: Endpoint | None = None
    debug: bool = False
    shared: bool = False


class ServiceCount(msgspec.Struct):
    """A service in a trace."""

    name: str
    spans: int
    errors: int


class Segment(msgspec.Struct, rename="camel"):
    """A stretch of the critical path, by the root's clock, and the span whose own time it is."""

    span_id: str
    begin_us: int
    end_us: int


class Missing(msgspec.Struct, rename="camel"):
    """What is known not to be there: the root, parents that are named; ``at_least`` so many spans in all.

    ``losses``: what processes of its services said around that time that they had to drop, of this trace or another.
    """

    root: bool
    parents: list[str]
    at_least: int
    losses: list[Loss]


class TraceView(msgspec.Struct, rename="camel"):
    """A trace: spans depth first, what its length is made of, what is worth a look, what is known to be missing.

    ``dropped``: what processes of this trace lost since their last batch, by reason; ``trace_dropped``: of this trace.
    """

    trace_id: str
    timestamp: int
    duration_us: int
    spans: list[SpanRow]
    services: list[ServiceCount]
    errors: int
    critical_path: list[Segment]
    findings: list[Finding]
    missing: Missing
    dropped: dict[str, int]
    trace_dropped: int
    truncated: bool


def trace(call: Call) -> Response:
    """Answer with one trace."""
    found = asking.trace_id(call.request.path_params["trace_id"])
    spans = list(islice(chain.from_iterable(call.query.trace(found)), MAX_VIEW_SPANS + 1))
    if not spans:
        raise Refused(404, f"There is no trace {found}; /api/v1/traces lists the newest ones")
    truncated = len(spans) > MAX_VIEW_SPANS
    view: dict[str, Any] = view_trace(spans[:MAX_VIEW_SPANS], truncated=truncated)
    view["missing"]["losses"] = _losses(call, view)
    response = json_answer(view)
    if truncated:
        response.headers[INCOMPLETE] = f"the spans after the first {MAX_VIEW_SPANS}; /api/v2/trace/{found} has all"
    return response


def _losses(call: Call, view: dict[str, Any]) -> list[Loss]:
    """Return what the ledger has about the services of a trace; losses are told by spans that come later."""
    services = [service["name"] for service in view["services"]]
    if not services or not view["timestamp"]:
        return []
    begin, length = view["timestamp"], min(view["durationUs"], asking.HOUR_US)
    return losses(call.reader, everything(begin, begin + length + _TOLD_US), _TOLD_US, _MAX_LOSSES, services)


OPERATIONS: Final = (
    Operation(
        "/api/v1/traces/{trace_id}",
        f"One trace as a person looks at it, at most its first {MAX_VIEW_SPANS:,} spans; truncated and the header "
        "Clew-Incomplete say when there are more.",
        (Parameter("trace_id", "In any spelling: upper-case, a dashed UUID.", required=True, within="path"),),
        TraceView,
        trace,
    ),
)
