"""clew's own read API under ``/api/v1``: what Zipkin's lacks. JSON in UTF-8; times in microseconds since the epoch.

* ``GET /traces``: newest traces first, a line each. Parameters ``service``, ``name`` (of any of its spans), ``errors``
  (true: only with errors), ``min_duration_ms``, ``limit`` (20), ``before`` (microseconds: those that began earlier; the
  answer's ``before`` asks for the next page, null on the last one). Answer: ``{"traces": [...], "before": ...}``. Where
  a trace began with an HTTP request its line has the ``path`` (no query) and the ``status``, as text.
* ``GET /traces/{id}``: one trace as :func:`clew.collector.trace.view_trace` shows it, at most its first 20,000 spans:
  ``truncated`` and the header ``Clew-Incomplete`` say when there are more.
* ``GET /traceIds``: ids of traces, of all that are stored, that begin with ``prefix`` (6 or more hex characters), in
  order, at most ``limit`` (20). Answer: ``{"traceIds": [...], "more": whether there are others}``.
* ``GET /logs``: an array of log records in time order. Parameters ``trace_id`` (else the newest of all, also those
  outside a trace), ``service``, ``level`` (this one and worse ones), ``grep`` (a text in message or exception, in any
  case), ``limit`` (1,000). Without ``trace_id`` also ``since`` and ``until`` (microseconds since 1970, both included),
  or ``lookback`` (microseconds before ``until``). The header ``Clew-Incomplete`` says when there are more.

Errors are ``{"error": "..."}`` and say what would do. An id may be upper-case or a dashed UUID.
"""

from __future__ import annotations

import re
import time
from itertools import chain, islice
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.routing import Route

from clew.collector.api.answers import INCOMPLETE, Refused, json_answer, json_error
from clew.collector.query import LogFilter, RecentQuestion
from clew.collector.trace.span import normalize_trace_id
from clew.collector.trace.view import view_trace

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from clew.collector.api.desk import Desk
    from clew.collector.api.parameters import Parameters
    from clew.collector.query import Query
    from clew.collector.settings import Settings

MAX_VIEW_SPANS = 20_000  # of one trace in one answer; a person reads no more
_MAX_LOGS = 10_000
_MAX_TIME_US = 2**63 - 1
_FUTURE_US = 60_000_000  # clocks of clients may be ahead of ours
_PREFIX = re.compile(r"[0-9a-f]{6,32}")  # of fewer characters everybody's id begins
_LEVELS = (
    ("TRACE", "NOTSET"),
    ("DEBUG",),
    ("INFO", "SUCCESS", "NOTICE"),
    ("WARNING", "WARN"),
    ("ERROR", "ERR", "EXCEPTION"),
    ("CRITICAL", "FATAL", "ALERT", "EMERGENCY"),
)


def routes(desk: Desk, settings: Settings) -> list[BaseRoute]:
    """Return the routes of this API but for the live tail."""
    api = V1Api(settings.retain)
    return [
        Route("/api/v1/traces", desk.endpoint(api.traces, json_error), methods=["GET"]),
        Route("/api/v1/traces/{trace_id}", desk.endpoint(api.trace, json_error), methods=["GET"]),
        Route("/api/v1/traceIds", desk.endpoint(api.trace_ids, json_error), methods=["GET"]),
        Route("/api/v1/logs", desk.endpoint(api.logs, json_error), methods=["GET"]),
    ]


class V1Api:
    """The answers; see the module's docstring. ``retain_s`` (seconds): how far back there is anything to find."""

    def __init__(self, retain_s: int) -> None:
        self._retain_us = retain_s * 1_000_000

    def traces(self, query: Query, request: Request, parameters: Parameters) -> Response:
        """``/traces``."""
        limit = _limit(parameters, 20, 1_000)
        until = _before(parameters) - 1
        question = RecentQuestion(
            since=max(0, min(until, _now_us()) - self._retain_us),
            until=until,
            limit=limit,
            service=parameters.text("service").lower(),
            name=parameters.text("name").lower(),
            errors_only=parameters.flag("errors"),
            min_duration=_milliseconds(parameters, "min_duration_ms"),
        )
        found = list(query.recent(question))
        requests = query.requests(found)
        for summary in found:
            path, url, status = requests.get(summary["traceId"], ("", "", ""))
            known = {"path": path or _path(url), "status": status}
            summary.update((name, value) for name, value in known.items() if value)
        return json_answer({"traces": found, "before": found[-1]["timestamp"] if len(found) == limit else None})

    def trace(self, query: Query, request: Request, parameters: Parameters) -> Response:
        """``/traces/{id}``."""
        trace_id = _trace_id(request.path_params["trace_id"])
        spans = list(islice(chain.from_iterable(query.trace(trace_id)), MAX_VIEW_SPANS + 1))
        if not spans:
            raise Refused(404, f"There is no trace {trace_id}; /api/v1/traces lists the newest ones")
        truncated = len(spans) > MAX_VIEW_SPANS
        response = json_answer(view_trace(spans[:MAX_VIEW_SPANS], truncated=truncated))
        if truncated:
            response.headers[INCOMPLETE] = (
                f"the spans after the first {MAX_VIEW_SPANS}; /api/v2/trace/{trace_id} has all"
            )
        return response

    def trace_ids(self, query: Query, request: Request, parameters: Parameters) -> Response:
        """``/traceIds``."""
        prefix = parameters.text("prefix").strip().lower().replace("-", "")
        if not _PREFIX.fullmatch(prefix):
            raise ValueError("prefix is the beginning of a trace id: 6 to 32 hex characters")
        limit = _limit(parameters, 20, 1_000)
        found = query.trace_ids(prefix, limit + 1)
        return json_answer({"traceIds": found[:limit], "more": len(found) > limit})

    def logs(self, query: Query, request: Request, parameters: Parameters) -> Response:
        """``/logs``."""
        limit = _limit(parameters, 1_000, _MAX_LOGS)
        found, rest = self._logs(query, parameters, limit + 1), "earliest"
        if parameters.text("trace_id"):
            found, left_out = found[:limit], found[limit:]
            rest = "latest"
        else:
            found, left_out = found[-limit:], found[:-limit]
        response = json_answer(found)
        if left_out:
            response.headers[INCOMPLETE] = f"the {rest} records, beyond limit={limit}"
        return response

    def _logs(self, query: Query, parameters: Parameters, limit: int) -> list[dict[str, Any]]:
        levels = levels_from(parameters.text("level"))
        wanted = LogFilter(parameters.text("service").lower(), levels, parameters.text("grep"))
        if parameters.text("trace_id"):
            return query.logs_of_trace(_trace_id(parameters.text("trace_id")), wanted, limit)
        return query.recent_logs(*self._window(parameters), wanted, limit)

    def _window(self, parameters: Parameters) -> tuple[int, int]:
        """Read ``since``, ``until`` and ``lookback``: by default all that is kept."""
        now = _now_us()
        until = _time(parameters, "until")
        until = now + _FUTURE_US if until is None else until
        since, lookback = _time(parameters, "since"), _time(parameters, "lookback")
        if since is None:
            since = now - self._retain_us if lookback is None else min(until, now) - lookback
        return max(since, now - self._retain_us, 0), until


def levels_from(level: str) -> list[str]:
    """Return the level and all worse ones; only itself when it is not a usual one; [] for ''."""
    level = level.upper()
    for place, names in enumerate(_LEVELS):
        if level in names:
            return [name for worse in _LEVELS[place:] for name in worse]
    return [level] if level else []


def _path(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:
        return ""


def _trace_id(text: str) -> str:
    try:
        return normalize_trace_id(text.strip().lower().replace("-", ""))
    except ValueError as invalid:
        raise ValueError(f"A trace id is 16 or 32 hex characters; {invalid}") from None


def _limit(parameters: Parameters, default: int, maximum: int) -> int:
    limit = parameters.long("limit")
    if limit is None:
        return default
    if not 1 <= limit <= maximum:
        raise ValueError(f"limit is a number from 1 to {maximum}")
    return limit


def _before(parameters: Parameters) -> int:
    before = parameters.long("before")
    if before is None:
        return _now_us() + _FUTURE_US
    if before <= 0:
        raise ValueError("before is a time in microseconds since 1970, such as the answer's own 'before'")
    return before


def _time(parameters: Parameters, name: str) -> int | None:
    value = parameters.long(name)
    if value is not None and value < 0:
        raise ValueError(f"{name} is a number of microseconds, 0 or more")
    return value


def _milliseconds(parameters: Parameters, name: str) -> int:
    text = parameters.text(name)
    try:
        value = float(text or 0)
    except ValueError:
        raise ValueError(f"{name} is a number of milliseconds, not {text!r}") from None
    if not 0 <= value <= _MAX_TIME_US / 1_000_000:
        raise ValueError(f"{name} is a number of milliseconds, 0 or more")
    return int(value * 1_000)


def _now_us() -> int:
    return time.time_ns() // 1_000
