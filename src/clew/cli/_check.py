"""Is a trace complete? What `clew demo --once` holds every request against. Pure: answers in, complaints out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from clew.wire import DROPPED_TAG, TRACE_DROPPED_TAG

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Json = dict[str, Any]

WITH_DATABASE: Final = frozenset({"orders", "stock"})


def complaints(spans: Sequence[Json], logs: Sequence[Json], trace_id: str, services: Iterable[str]) -> list[str]:
    """Return what is missing for one complete trace, in words; empty if nothing is.

    Complete: one root; every other span's parent is there; exactly the expected services, each with log lines under
    this trace id; every call between services seen from both sides; the SQL of those who have a database; no loss
    reported by any process.
    """
    expected = set(services)
    return [
        *_root_complaints(spans),
        *_orphan_complaints(spans),
        *_service_complaints(spans, expected),
        *_call_complaints(spans),
        *_sql_complaints(spans, expected),
        *_log_complaints(logs, trace_id, expected),
        *_loss_complaints(spans),
    ]


def _root_complaints(spans: Sequence[Json]) -> list[str]:
    roots = [span for span in spans if not span.get("parentId")]
    if len(roots) == 1:
        return []
    return [f"{len(roots)} roots instead of one" + _names(roots)]


def _orphan_complaints(spans: Sequence[Json]) -> list[str]:
    known = {span["id"] for span in spans}
    orphans = [span for span in spans if span.get("parentId") and span["parentId"] not in known]
    return [f"{len(orphans)} without their parent" + _names(orphans)] if orphans else []


def _service_complaints(spans: Sequence[Json], expected: set[str]) -> list[str]:
    seen = {_service(span) for span in spans}
    missing = [f"no span of {name}" for name in sorted(expected - seen)]
    return missing + [f"spans of {name}, which has no part in this" for name in sorted(seen - expected)]


def _call_complaints(spans: Sequence[Json]) -> list[str]:
    """A call by HTTP is a client's span with a server's span beneath it; a leaf that got lost shows here."""
    answered = {span.get("parentId") for span in spans if span.get("kind") == "SERVER"}
    calls = [span for span in spans if span.get("kind") == "CLIENT" and "http.method" in span.get("tags", {})]
    unanswered = [span for span in calls if span["id"] not in answered]
    return [f"{len(unanswered)} calls without the server's side" + _names(unanswered)] if unanswered else []


def _sql_complaints(spans: Sequence[Json], expected: set[str]) -> list[str]:
    asked = {_service(span) for span in spans if "db.statement" in span.get("tags", {})}
    return [f"no SQL of {name}" for name in sorted(expected & WITH_DATABASE - asked)]


def _log_complaints(logs: Sequence[Json], trace_id: str, expected: set[str]) -> list[str]:
    with_lines = {log.get("service") for log in logs if log.get("traceId") == trace_id}
    return [f"no log line of {name}" for name in sorted(expected - with_lines)]


def _loss_complaints(spans: Sequence[Json]) -> list[str]:
    lost = [
        f"{_service(span)} lost spans ({key}: {value})"
        for span in spans
        for key, value in span.get("tags", {}).items()
        if key in (DROPPED_TAG, TRACE_DROPPED_TAG)
    ]
    return sorted(set(lost))


def _service(span: Json) -> str:
    return str((span.get("localEndpoint") or {}).get("serviceName", "?"))


def _names(spans: Sequence[Json]) -> str:
    listed = ", ".join(f"{_service(span)} {span.get('name', '?')}" for span in spans[:4])
    return f" ({listed}{', …' if len(spans) > 4 else ''})" if spans else ""
