"""``/api/v1/errors``: failures grouped by what they are; ``/api/v1/losses``: what is known to be missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from clew.collector.api.v1 import asking
from clew.collector.api.v1.numbers import STEP, Window, read_step
from clew.collector.api.v1.operation import Operation, Parameter
from clew.collector.query import numbers
from clew.collector.query.troubles import Failure, Loss, failures, losses
from clew.collector.search.tree import EVERYTHING

if TYPE_CHECKING:
    from clew.collector.api.v1.operation import Call

_MAX_GROUPS: Final = 1_000


class Errors(Window, rename="camel", kw_only=True):
    """Groups of failures, the most frequent first."""

    step_us: int
    errors: list[Failure]


class Refusal(msgspec.Struct):
    """What receivers refused since the collector started: a counter, by source and reason as far as it has them."""

    counter: str
    source: str
    reason: str
    count: int


class Losses(Window, rename="camel", kw_only=True):
    """The loss ledger. ``clients``: what processes dropped in the window, ``receivers``: what was refused here.

    ``udp_kernel_dropped``: datagrams that the kernel dropped since the collector started, for its buffer was full.
    """

    step_us: int
    clients: list[Loss]
    receivers: list[Refusal]
    udp_kernel_dropped: int


def errors(call: Call) -> Errors:
    """Answer with groups of failures."""
    limit = asking.limit(call.parameters, 100, _MAX_GROUPS)
    query = asking.search(call.parameters)
    since, until = asking.short_window(call)
    step = read_step(call, since, until)
    chosen = numbers.choose(call.reader, query, since, until, "spans")
    found = failures(call.reader, chosen, step, limit)
    return Errors(since=since, until=until, incomplete=chosen.lacking or None, step_us=step, errors=found)


def ledger(call: Call) -> Losses:
    """Answer with what is known to be missing."""
    since, until = asking.short_window(call)
    step = read_step(call, since, until)
    chosen = numbers.choose(call.reader, EVERYTHING, since, until, "spans")
    service = call.parameters.text("service").lower()
    metrics = call.metrics
    refused = [
        Refusal(counter, labels.get("source", ""), labels.get("reason", ""), count)
        for counter in _REFUSALS
        for labels, count in metrics.by_labels(counter)
    ]
    return Losses(
        since=since,
        until=until,
        incomplete=None,
        step_us=step,
        clients=losses(call.reader, chosen, step, _MAX_GROUPS, [service] if service else []),
        receivers=refused,
        udp_kernel_dropped=metrics.value("udp_kernel_dropped_total"),
    )


_REFUSALS: Final = (
    "payloads_rejected_total",
    "payloads_refused_total",
    "rows_unreadable_total",
    "udp_errors_total",
    "http_rejected_total",
    "tail_lines_skipped_total",
)

OPERATIONS: Final = (
    Operation(
        "/api/v1/errors",
        "Failures grouped by type, pattern of the message and innermost own frame, with counts over time.",
        (asking.SEARCH, *asking.WINDOW, STEP, asking.limit_parameter(100, _MAX_GROUPS)),
        Errors,
        errors,
    ),
    Operation(
        "/api/v1/losses",
        "The loss ledger: what clients dropped by service, reason and time; what receivers refused and the kernel "
        "dropped since the collector started.",
        (Parameter("service", "Only what processes of this service dropped."), *asking.WINDOW, STEP),
        Losses,
        ledger,
    ),
)
