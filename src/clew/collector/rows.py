"""Rows of the store -> spans, log records and summaries. Pure; between ``store`` and ``query``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clew.collector.trace.span import Endpoint, Span, make_endpoint, sorted_annotations, sorted_tags

if TYPE_CHECKING:
    from collections.abc import Iterable


def short_id(trace_id: str) -> str:
    """Return the 16-character form of an id that has only 64 bits."""
    return trace_id[16:] if trace_id.startswith("0" * 16) else trace_id


def make_span(row: dict[str, Any]) -> Span:
    """Return the span of a row of ``spans``, its loose ends tied as Zipkin does (own parent, shared client)."""
    kind = row["kind"] or None
    span_id, parent_id = row["span_id"], row["parent_id"]
    return Span(
        trace_id=short_id(row["trace_id"]),
        parent_id=parent_id if parent_id and parent_id != span_id else None,
        id=span_id,
        kind=kind,
        name=row["name"] or None,
        timestamp=row["timestamp"],
        duration=row["duration"],
        local_endpoint=_endpoint(row, "local"),
        remote_endpoint=_endpoint(row, "remote"),
        annotations=sorted_annotations(zip(row["annotation_ts"], row["annotation_values"], strict=True)),
        tags=sorted_tags(row["tags"]),
        debug=bool(row["debug"]),
        shared=bool(row["shared"]) and kind != "CLIENT",  # the flag is the server's; some clients set it by mistake
    )


def report_order(span: Span) -> tuple[bool, int, str]:
    """In time order, spans without a time last."""
    return not span.timestamp, span.timestamp, span.id


def _endpoint(row: dict[str, Any], side: str) -> Endpoint | None:
    return make_endpoint(row[f"{side}_service"], row[f"{side}_ipv4"], row[f"{side}_ipv6"], row[f"{side}_port"])


def make_record(row: dict[str, Any]) -> dict[str, Any]:
    """Return a log record as it travels: what is absent is left out."""
    record = {name: row[name] for name in ("timestamp", "service", "level", "logger", "message")}
    optional = {"traceId": short_id(row["trace_id"]), "id": row["span_id"], "exception": row["exception"]}
    return record | {name: value for name, value in optional.items() if value}


def make_summary(row: dict[str, Any]) -> dict[str, Any]:
    """Return a line of the list of recent traces; see ``search_traces.sql``."""
    return {
        "traceId": short_id(row["id"]),
        "service": row["root"][0],
        "name": row["root"][1],
        "hasRoot": bool(row["has_root"]),
        "timestamp": row["started"],
        "durationUs": row["duration_us"],
        "spans": row["spans"],
        "errors": row["errors"],
        "services": sorted(filter(None, row["services"])),
    }


def make_shape_spans(shape: Iterable[Any]) -> list[Span]:
    """Make spans of a shape (see ``link_shapes.sql``) that link as the traces it stands for."""
    return [
        Span(
            trace_id="",
            parent_id=None if parent < 0 else f"{parent:08}",
            id=f"{place:08}",
            kind=kind or None,
            local_endpoint=make_endpoint(service, *address),
            remote_endpoint=make_endpoint(remote, "", "", 0),
            tags={"error": ""} if failed else {},
            shared=bool(shared) and kind != "CLIENT",
        )
        for place, parent, kind, shared, service, address, remote, failed in shape
    ]


def make_link_spans(rows: Iterable[dict[str, Any]]) -> list[Span]:
    """Make spans of the rows of ``link_spans.sql``: with no more than links need."""
    return [
        Span(
            trace_id="",
            parent_id=row["parent"] or None,
            id=row["id"],
            kind=row["kind"] or None,
            local_endpoint=make_endpoint(row["local_service"], row["local_ipv4"], row["local_ipv6"], row["local_port"]),
            remote_endpoint=make_endpoint(row["remote_service"], "", "", 0),
            tags=_FAILED if row["failed"] else _FINE,
            shared=bool(row["shared"]) and row["kind"] != "CLIENT",
        )
        for row in rows
    ]


_FINE: dict[str, str] = {}
_FAILED = {"error": ""}
