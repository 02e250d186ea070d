"""``/api/v1/logs``: log lines, of one trace or of all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from clew.collector.api.answers import INCOMPLETE, json_answer
from clew.collector.api.v1 import asking
from clew.collector.api.v1.operation import Operation, Parameter
from clew.collector.query import LogFilter

if TYPE_CHECKING:
    from starlette.responses import Response

    from clew.collector.api.v1.operation import Call

_MAX_LOGS: Final = 10_000
_LEVELS: Final = (
    ("TRACE", "NOTSET"),
    ("DEBUG",),
    ("INFO", "SUCCESS", "NOTICE"),
    ("WARNING", "WARN"),
    ("ERROR", "ERR", "EXCEPTION"),
    ("CRITICAL", "FATAL", "ALERT", "EMERGENCY"),
)


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


def logs(call: Call) -> Response:
    """Answer with records in time order."""
    parameters = call.parameters
    limit = asking.limit(parameters, 1_000, _MAX_LOGS)
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


def levels_from(level: str) -> list[str]:
    """Return the level and all worse ones; only itself when it is not a usual one; [] for ''."""
    level = level.upper()
    for place, names in enumerate(_LEVELS):
        if level in names:
            return [name for worse in _LEVELS[place:] for name in worse]
    return [level] if level else []


OPERATIONS: Final = (
    Operation(
        "/api/v1/logs",
        "Log records in time order: of a trace, or the newest of all. The header Clew-Incomplete says when there are "
        "more.",
        (
            Parameter("trace_id", "Only those of this trace; without it also lines outside of any trace."),
            *asking.WINDOW,
            Parameter("service", "Only lines of this service."),
            Parameter("level", "Only lines of this level and worse ones."),
            Parameter("grep", "Only lines with this text in message or exception, in any case."),
            asking.limit_parameter(1_000, _MAX_LOGS),
        ),
        list[LogLine],
        logs,
    ),
)
