"""``/api/v1/logs``: log lines, of one trace or of all, by a search; how many over time; what stands around one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from clew.collector.api.answers import INCOMPLETE, json_answer
from clew.collector.api.v1 import asking
from clew.collector.api.v1.numbers import STEP, Window, read_step
from clew.collector.api.v1.operation import Operation, Parameter
from clew.collector.query import LogFilter, lines
from clew.collector.query.lines import Place
from clew.collector.query.spans import bucket_numbers
from clew.collector.query.window import BUCKET_US
from clew.collector.search.lines import levels_from
from clew.collector.search.tree import And, Compare, Condition, Field, Text

if TYPE_CHECKING:
    from starlette.responses import Response

    from clew.collector.api.parameters import Parameters
    from clew.collector.api.v1.operation import Call

CURSOR: Final = "Clew-Cursor"
_MAX_LOGS: Final = 10_000
_MAX_AROUND: Final = 1_000
_CURSOR: Final = re.compile(r"(\d{1,19})\.(\d{1,20})\.(\d{1,19})\.(\d{1,19})")


class LogLine(msgspec.Struct, rename="camel", omit_defaults=True):
    """A log record; ``id`` is that of the span in which it was written."""

    timestamp: int
    service: str
    level: str
    logger: str
    message: str
    trace_id: str = ""
    id: str = ""
    exception: str = ""


class LogPoint(msgspec.Struct, rename="camel"):
    """How many lines of each level in the step that begins at ``timestamp``."""

    timestamp: int
    count: int
    levels: dict[str, int]


class LogHistogram(Window, rename="camel", kw_only=True):
    """Log lines over time, also where there are none."""

    step_us: int
    total: int
    points: list[LogPoint]


class LogContext(msgspec.Struct, rename="camel"):
    """Lines before a moment, and those from it on, each in time order."""

    before: list[LogLine]
    after: list[LogLine]


def logs(call: Call) -> Response:
    """Answer with records in time order."""
    parameters = call.parameters
    limit = asking.limit(parameters, 1_000, _MAX_LOGS)
    if parameters.text("q") or parameters.text("cursor"):
        return _searched(call, limit)
    found, rest = _found(call, limit + 1), "earliest"
    if parameters.text("trace_id"):
        found, left_out = found[:limit], found[limit:]
        rest = "latest"
    else:
        found, left_out = found[-limit:], found[:-limit]
    response = json_answer(found)
    if left_out:
        response.headers[INCOMPLETE] = f"the {rest} records, beyond limit={limit}"
    return response


def _found(call: Call, limit: int) -> list[dict[str, Any]]:
    parameters = call.parameters
    levels = levels_from(parameters.text("level"))
    wanted = LogFilter(parameters.text("service").lower(), levels, parameters.text("grep"))
    if parameters.text("trace_id"):
        return call.query.logs_of_trace(asking.trace_id(parameters.text("trace_id")), wanted, limit)
    return call.query.recent_logs(*asking.window(call), wanted, limit)


def _searched(call: Call, limit: int) -> Response:
    condition, place = _condition(call.parameters), None
    if call.parameters.text("cursor"):
        place, since, until = _read_cursor(call.parameters.text("cursor"))
    else:
        since, until = _window(call)
    found = lines.find(call.reader, condition, since, until, limit, place)
    response = json_answer(found.records)
    if found.place:
        response.headers[INCOMPLETE] = f"the earliest records, beyond limit={limit}"
        response.headers[CURSOR] = ".".join(map(str, (*found.place, since, until)))
    return response


def _window(call: Call) -> tuple[int, int]:
    """Return the window that was asked for; of a trace, the time in which it is."""
    if not call.parameters.text("trace_id"):
        return asking.window(call)
    buckets = bucket_numbers(call.reader, [asking.trace_id(call.parameters.text("trace_id"))])
    return (buckets[0] * BUCKET_US, (buckets[-1] + 1) * BUCKET_US - 1) if buckets else (1, 0)


def _read_cursor(text: str) -> tuple[Place, int, int]:
    found = _CURSOR.fullmatch(text)
    if found is None or max(int(found[n]) for n in (1, 3, 4)) >= 2**63 or int(found[2]) >= 2**64:
        raise ValueError("cursor is what an earlier answer gave; leave it out to begin anew")
    return Place(int(found[1]), int(found[2])), int(found[3]), int(found[4])


def _condition(parameters: Parameters) -> Condition:
    """Read ``q``, narrowed by the other parameters."""
    parts = [asking.condition(parameters)]
    if parameters.text("service"):
        parts.append(Compare(Field("service", True), "=", parameters.text("service").lower()))
    if parameters.text("level"):
        parts.append(Compare(Field("level", False), ">=", parameters.text("level")))
    if parameters.text("grep"):
        parts.append(Text(parameters.text("grep")))
    if parameters.text("trace_id"):
        parts.append(Compare(Field("trace", True), "=", asking.trace_id(parameters.text("trace_id"))))
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def histogram(call: Call) -> LogHistogram:
    """Answer with lines over time."""
    condition = _condition(call.parameters)
    since, until = asking.short_window(call)
    step = read_step(call, since, until)
    counts = lines.count(call.reader, condition, since, until, step)
    points = []
    for place in range((until - since) // step + 1):
        levels = counts.get(place, {})
        points.append(LogPoint(since + place * step, sum(levels.values()), levels))
    total = sum(point.count for point in points)
    return LogHistogram(since=since, until=until, incomplete=None, step_us=step, total=total, points=points)


def context(call: Call) -> Response:
    """Answer with what stands around a line."""
    moment = asking.moment(call.parameters, "timestamp")
    if moment is None:
        raise ValueError("timestamp is the time of the line, in microseconds since 1970")
    before, after = (_number(call.parameters, name) for name in ("before", "after"))
    service = call.parameters.text("service").lower()
    condition: Condition = Compare(Field("service", True), "=", service) if service else And(())
    earlier, later = lines.around(call.reader, condition, service, moment, before, after + 1)
    return json_answer({"before": earlier, "after": later})


def _number(parameters: Parameters, name: str) -> int:
    number = parameters.long(name)
    if number is None:
        return 20
    if not 0 <= number <= _MAX_AROUND:
        raise ValueError(f"{name} is a number from 0 to {_MAX_AROUND}")
    return number


_FILTERS: Final = (
    Parameter(
        "q",
        "A search over lines: service, level, logger, message, exception, trace, span, free text; any other field asks "
        "for lines of traces that have a span with it. See docs/search.md.",
    ),
    *asking.WINDOW,
    Parameter("trace_id", "Only lines of this trace; without it also those outside of any trace."),
    Parameter("service", "Only lines of this service."),
    Parameter("level", "Only lines of this level and worse ones."),
    Parameter("grep", "Only lines with this text in message or exception, in any case."),
)

OPERATIONS: Final = (
    Operation(
        "/api/v1/logs",
        "Log records in time order: of a trace, or the newest of all. The header Clew-Incomplete says when there are "
        f"more; then, with q, {CURSOR} is the cursor that asks for the older ones.",
        (
            *_FILTERS,
            asking.limit_parameter(1_000, _MAX_LOGS),
            Parameter("cursor", "Go on with older ones, with the same parameters."),
        ),
        list[LogLine],
        logs,
    ),
    Operation(
        "/api/v1/logs/histogram",
        "How many log lines of each level there are over time, for any search over lines.",
        (*_FILTERS, STEP),
        LogHistogram,
        histogram,
    ),
    Operation(
        "/api/v1/logs/context",
        "What was logged right before and after a line, up to six hours away; the line itself is the first of after.",
        (
            Parameter("timestamp", "The line's time, microseconds since 1970.", "integer", required=True),
            Parameter("service", "Only lines of this service."),
            Parameter("before", f"How many lines before, at most {_MAX_AROUND}.", "integer", 20),
            Parameter("after", f"How many lines after it, at most {_MAX_AROUND}.", "integer", 20),
        ),
        LogContext,
        context,
    ),
)
