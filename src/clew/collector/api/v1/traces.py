"""``/api/v1/traces``: traces found by a search, streamed as they are found; ``/api/v1/traceIds``: by how ids begin."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from clew.collector.api.answers import Streamed
from clew.collector.api.v1 import asking
from clew.collector.api.v1.operation import NDJSON, Cost, Operation, Parameter
from clew.collector.query.traces import ORDERS, Search, find
from clew.collector.search.tree import EVERYTHING, And, Compare, Condition, Exists, Field, Query, Somewhere
from clew.collector.trace.span import encode_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clew.collector.api.parameters import Parameters
    from clew.collector.api.v1.operation import Call
    from clew.collector.query import Query as Store
    from clew.collector.query.traces import Found, Place

_MAX_TRACES: Final = 1_000
_PREFIX: Final = re.compile(r"[0-9a-f]{6,32}")  # of fewer characters everybody's id begins


class TraceLine(msgspec.Struct, rename="camel", omit_defaults=True):
    """A trace in a list. Where it began with an HTTP request: its path (no query) and its status, as text."""

    trace_id: str
    service: str
    name: str
    has_root: bool
    timestamp: int
    duration_us: int
    spans: int
    errors: int
    services: list[str]
    path: str = ""
    status: str = ""


class Traces(msgspec.Struct, rename="camel"):
    """Traces in the order asked for.

    ``cursor`` asks for the next page, null on the last one; ``before`` the same by time alone. ``incomplete`` says what
    is lacking and why, when the search could not be finished; ``cursor`` then goes on where it ended.
    """

    traces: list[TraceLine]
    before: int | None
    cursor: str | None
    incomplete: str | None
    cost: Cost


class TraceIds(msgspec.Struct, rename="camel"):
    """Ids in order; ``more``: there are others."""

    trace_ids: list[str]
    more: bool


def traces(call: Call) -> Streamed:
    """Answer a search."""
    search = _search(call)
    batches = _with_requests(call.query, find(call.reader, search))
    if call.wants_lines:
        return Streamed(_as_lines(call, search, batches), NDJSON, eager=True)
    return Streamed(_as_object(call, search, batches), eager=True)


def _search(call: Call) -> Search:
    parameters = call.parameters
    order, place = asking.order(parameters), None
    if parameters.text("cursor"):
        order, place, since, until = asking.read_cursor(parameters.text("cursor"))
    else:
        since, until = asking.window(call)
        until = min(until, _before(parameters) - 1)
    return Search(
        query=_narrowed(asking.search(parameters), parameters),
        since=since,
        until=until,
        limit=asking.limit(parameters, 20, _MAX_TRACES),
        order=order,
        min_duration=asking.milliseconds(parameters, "min_duration_ms"),
        after=place,
    )


def _narrowed(query: Query, parameters: Parameters) -> Query:
    """Add what ``service``, ``name`` and ``errors`` ask of one span."""
    parts: list[Condition] = [
        Compare(Field(name, True), "=", parameters.text(name).lower())
        for name in ("service", "name")
        if parameters.text(name)
    ]
    if parameters.flag("errors"):
        parts.append(Exists(Field("error", False)))
    if not parts:
        return query
    one = Somewhere(parts[0] if len(parts) == 1 else And(tuple(parts)))
    return one if query == EVERYTHING else And((one, query))


def _before(parameters: Parameters) -> int:
    before = parameters.long("before")
    if before is None:
        return asking.now_us() + asking.FUTURE_US
    if before <= 0:
        raise ValueError("before is a time in microseconds since 1970, such as the answer's own 'before'")
    return before


def _with_requests(query: Store, batches: Iterator[Found]) -> Iterator[Found]:
    """Say of each trace what request began it."""
    for found in batches:
        requests = query.requests(found.lines)
        for line in found.lines:
            path, url, status = requests.get(line["traceId"], ("", "", ""))
            known = {"path": path or _path(url), "status": status}
            line.update((name, value) for name, value in known.items() if value)
        yield found


def _path(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:
        return ""


def _as_object(call: Call, search: Search, batches: Iterator[Found]) -> Iterator[bytes]:
    end = _End(call, search)
    opening = b'{"traces":['
    for found in batches:
        end.note(found)
        if found.lines:
            yield opening + b",".join(map(encode_json, found.lines))
            opening = b","
    yield (opening if opening != b"," else b"") + b"]," + encode_json(end.members())[1:]


def _as_lines(call: Call, search: Search, batches: Iterator[Found]) -> Iterator[bytes]:
    end = _End(call, search)
    for found in batches:
        end.note(found)
        if found.lines:
            yield b"".join(encode_json(line) + b"\n" for line in found.lines)
    yield encode_json(end.members()) + b"\n"


class _End:
    """What is said behind the last trace."""

    def __init__(self, call: Call, search: Search) -> None:
        self._patience = call.reader.patience
        self._limit_s = self._patience.limit_s
        self._search = search
        self._began = time.monotonic()
        self._count = 0
        self._last: dict[str, Any] = {}
        self._place: Place | None = None
        self._lacking = ""

    def note(self, found: Found) -> None:
        """Take notice of a batch."""
        self._count += len(found.lines)
        self._last = found.lines[-1] if found.lines else self._last
        self._place, self._lacking = found.place, found.lacking

    def members(self) -> dict[str, Any]:
        """Return the members behind the traces."""
        search, place = self._search, self._place
        by_time = search.order == "newest" and self._count == search.limit
        return {
            "before": self._last["timestamp"] if by_time else None,
            "cursor": asking.write_cursor(search.order, place, search.since, search.until) if place else None,
            "incomplete": self._lacking or None,
            "cost": Cost(self._patience.scanned_rows, round((time.monotonic() - self._began) * 1_000), self._limit_s),
        }


def trace_ids(call: Call) -> TraceIds:
    """Answer ids that begin like this."""
    prefix = call.parameters.text("prefix").strip().lower().replace("-", "")
    if not _PREFIX.fullmatch(prefix):
        raise ValueError("prefix is the beginning of a trace id: 6 to 32 hex characters")
    limit = asking.limit(call.parameters, 20, _MAX_TRACES)
    found = call.query.trace_ids(prefix, limit + 1)
    return TraceIds(found[:limit], len(found) > limit)


OPERATIONS: Final = (
    Operation(
        "/api/v1/traces",
        "Traces found by a search, in an order, page by page; streamed as they are found. With Accept: "
        "application/x-ndjson each trace is a line, and the last line holds what stands beside them here.",
        (
            asking.SEARCH,
            *asking.WINDOW,
            Parameter(
                "sort", "The order; what is equal in it is ordered by id.", default="newest", one_of=tuple(ORDERS)
            ),
            asking.limit_parameter(20, _MAX_TRACES),
            Parameter("cursor", "Go on behind an earlier answer, with the same q; holds order and window."),
            Parameter("before", "Only traces that began earlier than this, microseconds since 1970.", "integer"),
            Parameter("service", "Only traces with a span of this service."),
            Parameter("name", "... with a span of this name (the same span)."),
            Parameter("errors", "... with a failed span (the same span).", "boolean"),
            Parameter("min_duration_ms", "Only traces that took as long, in milliseconds.", "number"),
        ),
        Traces,
        traces,
    ),
    Operation(
        "/api/v1/traceIds",
        "Ids of traces, of all that are stored, that begin with these characters, in order.",
        (
            Parameter("prefix", "6 to 32 hex characters.", required=True),
            asking.limit_parameter(20, _MAX_TRACES),
        ),
        TraceIds,
        trace_ids,
    ),
)
